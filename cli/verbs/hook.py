"""Hooks of coding agents: what answers them, and how they get into an agent's own settings."""

from __future__ import annotations

import difflib
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.failures import Failure
from cli.program import program

if TYPE_CHECKING:
    from remit_client.hooks.settings import Change, Placed

hook = typer.Typer(
    help="Put the tool calls of coding agents before the gate.", no_args_is_help=True, rich_markup_mode=None
)


class Coder(StrEnum):
    """A coding agent with hooks."""

    CLAUDE = "claude"
    CODEX = "codex"
    GEMINI = "gemini"
    OPENCODE = "opencode"
    CURSOR = "cursor"


class Hookable(StrEnum):
    """An agent into whose settings a hook or a plugin can be written."""

    CLAUDE = "claude"
    CODEX = "codex"
    GEMINI = "gemini"
    OPENCODE = "opencode"
    CURSOR = "cursor"
    OPENCLAW = "openclaw"


class Outside(StrEnum):
    """What an agent gets that Remit did not start."""

    DENY = "deny"
    PASS = "pass"  # noqa: S105  leave, not a password


Wait = Annotated[
    int | None, typer.Option("--wait", min=0, max=86_400, help="How long to wait for a person's answer, in seconds.")
]
Home = Annotated[bool, typer.Option("--user", help="For every project of this user, not for this folder alone.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this word."""
    app.add_typer(hook, name="hook")


def _answer(
    context: typer.Context,
    wait: Wait = None,
    defer: Annotated[
        bool, typer.Option("--defer", help="claude: pause the agent until a person answers, and be asked again.")
    ] = False,
    keep_prompts: Annotated[
        bool, typer.Option("--keep-prompts", help="claude: where Remit allows, let the agent's own rules speak too.")
    ] = False,
    outside: Annotated[
        Outside, typer.Option("--outside", help="What an agent gets that Remit did not start.")
    ] = Outside.DENY,
) -> None:
    """Answer one hook event, read as JSON on standard input. Called by the agent.

    Whatever goes wrong denies the call: exit code 2, and why on standard error.

    Examples:
      remit hook claude --defer
    """
    from remit_client.hooks.main import run

    words = [str(context.info_name), f"--outside={outside}"]
    words += [f"--wait={wait}"] if wait is not None else []
    words += [name for name, given in (("--defer", defer), ("--keep-prompts", keep_prompts)) if given]
    raise typer.Exit(run(words, sys.stdin.buffer, os.environ))


for _coder in Coder:
    hook.command(_coder.value)(_answer)


@hook.command("install")
def install(
    agent: Annotated[Hookable, typer.Argument(help="The agent.")],
    wait: Wait = None,
    defer: Annotated[bool, typer.Option("--defer", help="claude: pause the agent instead of waiting.")] = False,
    http: Annotated[bool, typer.Option("--http", help="claude: ask over HTTP instead of starting a program.")] = False,
    url: Annotated[
        str, typer.Option("--url", help="With --http: the agent port, as agents get it in REMIT_URL.")
    ] = "http://127.0.0.1:8421",
    user: Home = False,
    dry_run: DryRun = False,
) -> None:
    """Write the hook or plugin into the agent's own settings, and show what changed.

    Examples:
      remit hook install claude
      remit hook install claude --http
      remit hook install gemini --user --wait 50 --dry-run
      remit hook install openclaw --user
    """
    from remit_client.hooks.dialects import DIALECTS
    from remit_client.hooks.settings import HTTP_WAIT_S, Placed

    dialect = DIALECTS.get(agent.value)
    if defer and (dialect is None or not dialect.later):
        raise Failure(f"{agent} cannot be paused: --defer is for claude")
    if http and agent is not Hookable.CLAUDE:
        raise Failure(f"{agent} has no HTTP hooks: --http is for claude")
    if http:
        seconds = HTTP_WAIT_S if wait is None else wait
        query = f"?wait={seconds}" + ("&defer=true" if defer else "")
        placed = Placed(url=f"{url.rstrip('/')}/agent/v1/hooks/claude{query}", wait_s=seconds)
    elif dialect is None:
        if wait is not None:
            raise Failure("the plugin of openclaw waits 280 seconds: --wait is for the other agents")
        placed = Placed()
    else:
        words = [program(), "hook", agent.value]
        words += [f"--wait={wait}"] if wait is not None else []
        words += ["--defer"] if defer else []
        placed = Placed(" ".join(words), int(dialect.wait_s) if wait is None else wait)
    _change(agent, placed, user=user, dry_run=dry_run)


@hook.command("uninstall")
def uninstall(
    agent: Annotated[Hookable, typer.Argument(help="The agent.")], user: Home = False, dry_run: DryRun = False
) -> None:
    """Take the hook or plugin out of the agent's settings again, and leave everything else.

    Examples:
      remit hook uninstall claude
    """
    _change(agent, None, user=user, dry_run=dry_run)


def _change(agent: Hookable, placed: Placed | None, *, user: bool, dry_run: bool) -> None:
    from remit_client.hooks.settings import FILES

    known = FILES[agent.value]
    base = Path.home() if user else Path.cwd()
    changes = []
    for name, change in known.files:
        path = base / name
        here = None if placed is None else replace(placed, folder=str(path.parent))
        old, new = _changed(path, change, here)
        if new != old:
            lines = difflib.unified_diff(old.splitlines(), new.splitlines(), str(path), str(path), lineterm="", n=2)
            print("\n".join(lines))
            changes.append((path, new))
    if not changes:
        print(f"{base / known.path} stays as it is")
        return
    if dry_run:
        return
    for path, new in changes if placed is None else reversed(changes):  # named last, so that it is whole by then
        _write(path, new)
    if placed is not None:
        _remark(known.notes, placed)


def _changed(path: Path, change: Change, placed: Placed | None) -> tuple[str, str]:
    """The text that a file has, and the one that it gets. Raises Failure."""
    from remit_client.hooks.settings import SettingsError

    try:
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        return old, change(old, placed)
    except UnicodeDecodeError:
        raise Failure(f"{path}: not UTF-8") from None
    except SettingsError as error:
        raise Failure(f"{path}: {error}", hint=error.hint) from None


def _remark(notes: Sequence[str], placed: Placed) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if placed.url:
        print("note: Claude Code before 2.1.329 runs the call when the engine does not answer", file=sys.stderr)
    if placed.command and not Path(shlex.split(placed.command)[0]).is_absolute():
        print("note: the agent has to find remit on its PATH", file=sys.stderr)


def _write(path: Path, text: str) -> None:
    """Replace the file whole, or remove it where nothing is left. A link is followed: its target is what changes."""
    path = path.resolve()
    if not text:
        path.unlink()
        if path.parent.name == "remit-gate":  # ours alone
            with suppress(OSError):
                path.parent.rmdir()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".remit-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
