"""Giving a mission up: cancel."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import common, completion, missions
from cli.failures import Exit, Failure
from schemas.base import DEFAULT_NAMESPACE


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("cancel")(cancel)


def cancel(
    context: typer.Context,
    target: Annotated[
        str, typer.Argument(help="mission/NAME.", metavar="MISSION", autocompletion=completion.of("mission"))
    ],
    reason: common.Reason = "",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Give a mission up: sets spec.desiredState to Canceled where it is declared.

    Examples:
      remit cancel check-links --reason "no longer wanted"
    """
    with common.store_of(context) as store:
        mission = missions.named(store, target, namespace)
        if mission.state in ("Canceled", "Failed"):
            raise Failure(f"{mission.key.short} is {mission.state} already", code=Exit.REFUSED)
        missions.change(context, store, mission, [(("spec", "desiredState"), "Canceled")], "Cancel", reason)
