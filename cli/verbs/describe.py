"""Telling all about one object: describe."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import common, completion, held, moment
from schemas.base import DEFAULT_NAMESPACE


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("describe")(describe)


def describe(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            help="KIND/NAME, or a kind followed by a name.", metavar="KIND/NAME", autocompletion=completion.target
        ),
    ],
    name: Annotated[
        str | None, typer.Argument(help="Name, when the kind stands alone.", autocompletion=completion.names_of_kind)
    ] = None,
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Tell everything about one object: what is declared, what is true, why it waits, what happened last.

    Examples:
      remit describe mission/check-links
      remit describe agent links -n docs
    """
    from cli.description import describe_object

    key = common.key_named(f"{target}/{name}" if name else target, namespace)
    with common.store_of(context, read_only=True) as store, store.snapshot() as snapshot:
        resource = common.object_named(snapshot, key)
        print(describe_object(snapshot, resource, moment.now(), held.stops_of(common.project_of(context))))
