"""What stops an object, as verbs tell it: the Hold that counts, who placed it and why, until when, how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from cli import common
from cli.failures import Exit, Failure
from schemas.base import Key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from cli.project import Project
    from controllers.holds.stops import Stops
    from decisions.holds import Held
    from schemas.resource import Resource
    from store.contract import Snapshot, Store

KINDS = ("Agent", "Mission", "Executor", "Project", "Goal", "Run")


def stops_of(project: Project) -> Stops:
    """What stops work beside the store, as far as it can be seen from a command: the ESTOP files."""
    from controllers.holds.stop_file import of_project
    from controllers.holds.stops import Stops

    return Stops(of_project(project.config, project.root, project.state))


def held(snapshot: Snapshot, stops: Stops | None, resource: Resource, now: datetime) -> Held | None:
    """The strictest Hold on an object, and on what it works with. ``stops`` None: only Holds in the store are seen."""
    from controllers.holds import effective
    from controllers.holds.stops import NONE
    from decisions.holds import strictest

    stops = stops or NONE

    if resource.kind == "Run":
        from controllers.runs import inbox

        return inbox.held(snapshot, resource, now, stops)
    if resource.kind == "Mission":
        return effective.held(snapshot, stops, _agent_of(snapshot, resource), resource, now)
    if resource.kind == "Agent":
        return effective.held(snapshot, stops, resource, None, now)
    return strictest(effective.holds(snapshot, stops), [(resource.key, resource.labels)], now)


def _agent_of(snapshot: Snapshot, mission: Resource) -> Resource | None:
    ref = mission.spec.get("agentRef") or mission.status.get("agent")
    return snapshot.get(Key("Agent", ref.get("namespace") or mission.namespace, ref["name"])) if ref else None


def told(found: Held) -> Iterator[tuple[str, str]]:
    """Name and value of each line."""
    from schemas.quantities import format_time

    word = "e-stop" if found.estop else "quarantine" if found.quarantine else f"mode {found.mode}"
    yield "By", f"{found.placed_by} ({word}, {found.hold.short})"
    yield "Why", found.reason
    yield "Since", format_time(found.since)
    yield "Until", format_time(found.until) if found.until is not None else "somebody ends it"
    yield "Release", found.remedy


def require_free(context: typer.Context, store: Store, resource: Resource) -> None:
    """After an act on it was recorded: say that it is held. Raises Failure (exit 3)."""
    from cli.moment import now

    with store.snapshot() as snapshot:
        current = snapshot.get(resource.key) or resource
        found = held(snapshot, stops_of(common.project_of(context)), current, now())
    if found is not None:
        raise Failure(
            f"recorded, but {resource.key.short} is held: {found.hint}",
            hint=f"remit describe {resource.key.short}",
            code=Exit.REFUSED,
        )
