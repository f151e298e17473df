"""Checking spec files: validate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import common, output
from cli.failures import Exit
from cli.spec_folder import DiffFormat, specs_of

if TYPE_CHECKING:
    from schemas.errors import Diagnostic


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("validate")(validate)


def validate(
    context: typer.Context,
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files or folders; the project's specs by default.")
    ] = None,
    form: Annotated[DiffFormat, typer.Option("--output", "-o", help="human, json or markdown.")] = DiffFormat.HUMAN,
    quiet: common.Quiet = False,
) -> None:
    """Check spec files: every error at once, each with file:line:column, what was expected, and a suggestion.

    Examples:
      remit validate
      remit validate specs/ -o json
    """
    from cli.compiling import compile_paths

    wanted = paths or [specs_of(context)]
    units = compile_paths(wanted)
    found = [d for unit in units for d in unit.diagnostics]
    count = sum(len(unit.declared) for unit in units)
    _print_findings(found, count, form, quiet=quiet)
    if found:
        raise typer.Exit(int(Exit.ERROR))


def _print_findings(found: list[Diagnostic], count: int, form: DiffFormat, *, quiet: bool) -> None:
    if form is DiffFormat.JSON:
        rows = [
            {"path": d.path, "line": d.line, "column": d.column, "field": d.field, "message": d.message,
             "expected": d.expected, "hint": d.hint}
            for d in found
        ]  # fmt: skip
        print(output.dump_json({"valid": not found, "objects": count, "errors": rows}))
        return
    lines = [output.safe(str(d)) for d in found]
    if form is DiffFormat.MARKDOWN:
        head = f"**{len(found)} error(s)**" if found else f"**{count} object(s) valid**"
        print("\n".join([head, *(f"- `{line.replace('`', chr(39))}`" for line in lines)]))
        return
    for line in lines:
        print(line, file=sys.stderr)
    if found:
        print(f"{len(found)} error{'s' if len(found) != 1 else ''}", file=sys.stderr)
    elif not quiet:
        print(f"{count} object{'s' if count != 1 else ''} valid")
