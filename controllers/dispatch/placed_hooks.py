"""The hook that an executor puts before the tool calls of a coding agent: into the settings of the run's own HOME.

The hook proves itself with a token of its own, so that the engine can tell its calls from those of the program. Both
lie in files of the run, which the agent's user can read: an agent that may read its HOME can speak for its hook.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from schemas.executor import HookedProgram, hooked_at

DEFER_AFTER_S = 5
"""How long a hook waits for a quick answer before its program stops to wait without a process."""
_EXTRA = {HookedProgram.CLAUDE: ("--setting-sources", "user")}
"""Arguments that follow the program: the settings of the repository under work could switch hooks off."""


def place(program: HookedProgram, argv: Sequence[str], home: Path, token: str, *, defer: bool = False) -> list[str]:
    """Write the hook's files below ``home``; the arguments to start with. ``defer``: where the program can stop to wait
    for a person, it does, instead of waiting itself. Idempotent. Raises OSError."""
    # Loaded with the first agent that has a hook: most programs have none.
    from remit_client.hooks.dialects import DIALECTS
    from remit_client.hooks.settings import FILES, Placed

    name = program.value.lower()
    folder = home / ".remit"
    folder.mkdir(mode=0o700, exist_ok=True)
    token_file = folder / "hook-token"
    _write(token_file, token, 0o600)
    # -P: the folder under work must not be where the hook's modules are looked for.
    words = [sys.executable, "-P", "-m", "remit_client.hooks", name, f"--token-file={token_file}"]
    if defer and DIALECTS[name].later:
        words += ["--defer", f"--wait={DEFER_AFTER_S}"]
    command = shlex.join(words)
    for path, change in FILES[name].files:
        target = home / path
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        placed = Placed(command, int(DIALECTS[name].wait_s), folder=str(target.parent))
        _write(target, change("", placed), 0o600)
    after = hooked_at(program, argv) + 1
    return [*argv[:after], *_EXTRA.get(program, ()), *argv[after:]]


def _write(path: Path, text: str, mode: int) -> None:
    """Rename it into place: a delivery that comes twice must never leave half of it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
    aside.replace(path)
