"""Running a mission again: retry."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import common, completion, held, missions
from cli.failures import Exit, Failure
from schemas.base import DEFAULT_NAMESPACE


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("retry")(retry)


def retry(
    context: typer.Context,
    target: Annotated[
        str, typer.Argument(help="mission/NAME.", metavar="MISSION", autocompletion=completion.of("mission"))
    ],
    reason: common.Reason = "",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Run a mission again, or its next attempt now. Held missions are recorded as asked for, and exit 3 says so.

    Examples:
      remit retry check-links
    """
    from controllers.runtime.clock import SystemClock
    from schemas.quantities import format_time
    from schemas.resource import RETRY_REQUESTED_AT

    with common.store_of(context) as store:
        mission = missions.named(store, target, namespace)
        if mission.state == "Canceled":
            raise Failure(
                f"{mission.key.short} is Canceled for good",
                "set spec.desiredState to Complete under a new name to do the work after all",
                code=Exit.REFUSED,
            )
        token = format_time(SystemClock().now())
        path = ("metadata", "annotations", RETRY_REQUESTED_AT)
        missions.change(context, store, mission, [(path, token)], "Retry", reason)
        held.require_free(context, store, mission)
