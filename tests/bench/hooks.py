"""How long a coding agent stands still for its hook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.measure import Measured, by_turns, ms
from tests.fakes.gate import Gate

EVENT = {
    "session_id": "s", "cwd": "/", "hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_use_id": "t",
    "tool_input": {"command": "git status"},
}  # fmt: skip


def answer(scale: float) -> Measured:
    """One call of ``remit hook claude``, allowed by an engine that answers at once."""
    rounds = 3 if scale < 0.5 else 25
    with tempfile.TemporaryDirectory() as folder, Gate((200, {"decision": "allow", "reason": "x"})).serving() as gate:
        environment = {**os.environ, "HOME": folder, "PYTHONPYCACHEPREFIX": str(Path(folder, "compiled"))}
        environment |= {"REMIT_URL": gate.url, "REMIT_TOKEN": "t", "REMIT_RUN": "r"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        event = json.dumps(EVENT).encode()

        def run(*arguments: str) -> bytes:
            return subprocess.run(
                [sys.executable, *arguments], input=event, env=environment, capture_output=True, check=True
            ).stdout

        called = "import sys; sys.argv = ['remit', 'hook', 'claude']; from cli.entry import main; main()"
        assert b'"allow"' in run("-c", called)
        run("-c", "pass")
        ours, floor = by_turns(lambda: run("-c", called), lambda: run("-c", "pass"), rounds)
    return Measured(ours / floor, ms(ours), ms(floor), f"{ms(ours - floor)} on top")
