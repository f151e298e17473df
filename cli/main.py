"""The entrance of the command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextvars import copy_context
from pathlib import Path
from typing import Annotated

import typer

from cli import completion, failures, help, moment, program
from cli.version import __version__

app = typer.Typer(
    name=program.NAME,
    cls=help.AllVerbs,
    help="GitOps for autonomous agents: declare agents, policies, budgets and missions in git; Remit makes it so.",
    epilog="Start with: remit init, then remit run. Every verb: remit VERB --help.",
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        print(f"remit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    project: Annotated[
        Path | None, typer.Option("--project", "-C", help="Folder of the project; the working directory by default.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that stand before the verb."""
    context.obj = project
    if project is not None:
        program.in_folder(project)


def main() -> None:
    """Entry point of ``remit``."""
    sys.exit(run(sys.argv[1:], called=sys.argv[0]))


def run(arguments: Sequence[str], *, called: str = program.NAME, now: moment.Now | None = None) -> int:
    """Carry out a command line and give its exit code. ``called`` is the word that the program was called by, ``now``
    the clock (this machine's by default)."""

    def command() -> int:
        # The name decides the variable that shells ask for completions by, so it is always the same.
        code = typer.main.get_command(app).main(list(arguments), prog_name=program.NAME, standalone_mode=False)
        return code if isinstance(code, int) else 0

    def in_context() -> int:
        with program.called_as(called), moment.told_by(now):
            return completion.silently(command) if completion.asked_for() else failures.guarded(command)

    return copy_context().run(in_context)
