"""Saying what kinds and fields mean: explain."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import completion, output


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("explain")(explain)


def explain(
    path: Annotated[
        str | None, typer.Argument(help="Kind or field: mission, mission.spec.retry.", autocompletion=completion.fields)
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", help="Every field below, as a tree.")] = False,
) -> None:
    """Explain a kind or a field: what it means, its type, its default, what it may be.

    Examples:
      remit explain
      remit explain mission.spec.retry
      remit explain agent --recursive
    """
    from schemas import explain as explaining
    from schemas import registry

    if path is None:
        rows = [
            [
                name.plural,
                ",".join(name.short_names) or "-",
                str(name.object_class),
                registry.by_kind(name.kind).description,
            ]
            for name in registry.NAMES
        ]
        print(output.table(rows, ["KIND", "SHORT", "CLASS", "DESCRIPTION"]))
        return
    print(explaining.render(explaining.explain(path), recursive=recursive))
