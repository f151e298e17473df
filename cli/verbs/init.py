"""Making a project: init."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("init")(init)


def init(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Argument(help="Project folder; this one by default.")] = None,
    empty: Annotated[bool, typer.Option("--empty", help="Without the starter agents and missions.")] = False,
) -> None:
    """Make a project: remit.yaml, a git repository of starter specs in specs/, JSON Schemas for your editor.

    Examples:
      remit init
      remit init fleet --empty
    """
    from cli.starter import make_project

    done = make_project((folder or context.find_root().obj or Path.cwd()).absolute(), empty=empty)
    for line in done:
        print(line)
