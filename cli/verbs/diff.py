"""Showing what specs would do: diff."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import common
from cli.failures import Exit, Failure
from cli.spec_folder import DiffFormat, specs_of


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("diff")(diff)


def diff(
    context: typer.Context,
    path: Annotated[Path | None, typer.Argument(help="Folder of specs; the project's by default.")] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="Compare with this folder or commit instead of the store (offline).")
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", help="Plan this commit instead of the files as they lie there.")
    ] = None,
    form: Annotated[DiffFormat, typer.Option("--output", "-o", help="human, json or markdown.")] = DiffFormat.HUMAN,
    markdown: Annotated[bool, typer.Option("--markdown", help="Short for -o markdown, for pull requests.")] = False,
) -> None:
    """Show what applying the specs would do: fields, and effects on running work, money and permissions.

    Exit codes: 0 nothing, 1 changes, 2 an error, 3 a guard holds a part back.

    Examples:
      remit diff
      remit diff --head HEAD~1
      remit diff --base main --markdown
    """
    from cli.plans import plan_live, plan_offline, render

    folder = path or (None if base is not None and head is not None else specs_of(context))
    if base is not None:
        plans = plan_offline(_repository(context, path), base, head, folder)
    else:
        with common.store_of(context, read_only=True) as store:
            plans = plan_live(common.project_of(context), store, folder, head)
    print(render(plans, DiffFormat.MARKDOWN if markdown else form))
    if any(p.plan.guards for p in plans):
        raise typer.Exit(int(Exit.REFUSED))
    if any(p.plan.entries for p in plans):
        raise typer.Exit(int(Exit.DIFFERENT))


def _repository(context: typer.Context, path: Path | None) -> Path:
    """Where commits that are named by --base and --head are looked up."""
    if path is not None:
        return path
    try:
        return specs_of(context)
    except Failure:
        return Path.cwd()
