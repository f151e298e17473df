"""Hooks of coding agents: what answers them, and how they get into an agent's own settings."""

from __future__ import annotations

import difflib
import os
import shlex
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.failures import Failure
from cli.hook_files import FILES
from cli.program import program

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
    agent: Annotated[Coder, typer.Argument(help="The coding agent.")],
    wait: Wait = None,
    defer: Annotated[bool, typer.Option("--defer", help="claude: pause the agent instead of waiting.")] = False,
    user: Home = False,
    dry_run: DryRun = False,
) -> None:
    """Write the hook into the agent's own settings, and show what changed.

    Examples:
      remit hook install claude
      remit hook install gemini --user --wait 50 --dry-run
    """
    from remit_client.hooks.dialects import DIALECTS

    dialect = DIALECTS[agent.value]
    if defer and not dialect.later:
        raise Failure(f"{agent} cannot be paused: --defer is for claude")
    seconds = int(dialect.wait_s) if wait is None else wait
    words = [program(), "hook", agent.value]
    if wait is not None:
        words.append(f"--wait={wait}")
    if defer:
        words.append("--defer")
    _change(agent, " ".join(words), seconds, user=user, dry_run=dry_run)


@hook.command("uninstall")
def uninstall(
    agent: Annotated[Coder, typer.Argument(help="The coding agent.")], user: Home = False, dry_run: DryRun = False
) -> None:
    """Take the hook out of the agent's settings again, and leave everything else.

    Examples:
      remit hook uninstall claude
    """
    _change(agent, None, 0, user=user, dry_run=dry_run)


def _change(agent: Coder, command: str | None, wait_s: int, *, user: bool, dry_run: bool) -> None:
    known = FILES[agent.value]
    path = (Path.home() if user else Path.cwd()) / known.path
    try:
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        new = known.change(old, command, wait_s)
    except UnicodeDecodeError:
        raise Failure(f"{path}: not UTF-8") from None
    except Failure as error:
        raise Failure(f"{path}: {error}") from None
    if new == old:
        print(f"{path} stays as it is")
        return
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), str(path), str(path), lineterm="", n=2)
    print("\n".join(lines))
    if dry_run:
        return
    _write(path, new)
    if command is not None:
        for note in known.notes:
            print(f"note: {note}", file=sys.stderr)
        if not Path(shlex.split(command)[0]).is_absolute():
            print("note: the agent has to find remit on its PATH", file=sys.stderr)


def _write(path: Path, text: str) -> None:
    """Replace the file whole, or remove it where nothing is left. A link is followed: its target is what changes."""
    path = path.resolve()
    if not text:
        path.unlink()
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
