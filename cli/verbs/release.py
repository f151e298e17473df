"""Ending Holds: release."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import common, completion
from cli.failures import Exit, Failure
from schemas.base import DEFAULT_NAMESPACE


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("release")(release)


def release(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="Names of Holds.", autocompletion=completion.of("hold"))],
    reason: common.Reason = "",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """End Holds that were placed by hand; one that a source declares is ended by a commit.

    Examples:
      remit release hold-1a2b3c4d
    """
    from cli.project import me
    from schemas.event import EventType

    with common.store_of(context) as store, store.transaction(me()) as tx:
        for name in names:
            found = common.object_named(tx, common.key_named(name, namespace, default_kind="hold"))
            if found.unit:
                place = found.provenance.place if found.provenance else "a source"
                raise Failure(f"{found.key.short} is declared at {place}: remove it there", code=Exit.REFUSED)
            tx.event(EventType.HOLD_RELEASED, found, reason="Released", message=reason or "released")
            tx.remove(found)
            print(f"{found.key.short} released")
