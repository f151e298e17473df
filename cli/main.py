"""The entrance of the command: which verbs there are. Each is in the module of its group, imported by `build`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli import failures
from cli.version import __version__

# Verb -> (module, function). Modules are imported when their verb is called; `--help` imports them all, so none may
# import a heavy library at its top.
GROUPS = ("cli.specs", "cli.engine", "cli.objects", "cli.records", "cli.acts", "cli.admin")

app = typer.Typer(
    name="remit",
    help="GitOps for autonomous agents: declare agents, policies, budgets and missions in git; Remit makes it so.",
    epilog="Start with: remit init, then remit run. Every verb: remit VERB --help.",
    no_args_is_help=True,
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


def build() -> typer.Typer:
    """The command with all its verbs."""
    for name in GROUPS:
        importlib.import_module(name).register(app)
    return app


def main() -> None:
    """Entry point of ``remit``."""
    with failures.guarded():
        build()(standalone_mode=True)
    sys.exit(0)
