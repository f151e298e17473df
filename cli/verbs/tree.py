"""Showing what belongs to what: tree."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import common, completion
from schemas.base import DEFAULT_NAMESPACE


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("tree")(tree)


def tree(
    context: typer.Context,
    target: Annotated[
        str | None,
        typer.Argument(help="KIND/NAME to start from; everything by default.", autocompletion=completion.target),
    ] = None,
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    all_namespaces: common.AllNamespaces = False,
) -> None:
    """Show what belongs to what: goal or agent, its missions, their runs and questions.

    Examples:
      remit tree
      remit tree agent/links
    """
    from cli.trees import render

    with common.store_of(context, read_only=True) as store, store.snapshot() as snapshot:
        root = common.object_named(snapshot, common.key_named(target, namespace)) if target else None
        print("\n".join(render(snapshot, root, None if all_namespaces else namespace)))
