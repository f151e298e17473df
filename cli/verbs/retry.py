"""Running a mission again: retry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli import common, completion, missions
from cli.failures import Exit, Failure
from schemas.base import DEFAULT_NAMESPACE, Key

if TYPE_CHECKING:
    from schemas.resource import Resource
    from store.contract import Store


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
        hint = _held(store, mission)
        if hint:
            raise Failure(
                f"recorded, but {mission.key.short} is held: {hint}",
                hint=f"remit describe {mission.key.short}",
                code=Exit.REFUSED,
            )


def _held(store: Store, mission: Resource) -> str:
    """What the Hold says that stops a mission or its agent; "" when none does."""
    from cli.moment import now
    from controllers.holds.effective import holds
    from decisions.holds import strictest

    with store.snapshot() as snapshot:
        objects = [(mission.key, mission.labels)]
        ref = mission.status.get("agent") or mission.spec.get("agentRef")
        if ref:
            key = Key("Agent", ref.get("namespace") or mission.namespace, ref["name"])
            agent = snapshot.get(key)
            objects.append((key, agent.labels if agent is not None else {}))
        found = strictest(holds(snapshot), objects, now())
    return found.hint if found is not None else ""
