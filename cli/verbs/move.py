"""Giving a schedule another time: move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import common, completion, span
from cli.failures import Exit, Failure
from schemas.base import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from datetime import datetime

    from decisions.feed import Conflict
    from schemas.resource import Resource
    from schemas.schedule import ScheduleSpec
    from store.contract import Snapshot


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("move")(move)


def move(
    context: typer.Context,
    schedule: Annotated[
        str, typer.Argument(help="Name of the Schedule.", metavar="SCHEDULE", autocompletion=completion.of("schedule"))
    ],
    cron: Annotated[str, typer.Argument(help="Its new time, such as '0 3 * * *' or @daily.", metavar="CRON")],
    time_zone: Annotated[
        str | None, typer.Option("--time-zone", "-z", help="Its new time zone; else it stays.")
    ] = None,
    length: Annotated[str, typer.Option("--for", help="How far ahead to look for conflicts.")] = "14d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only look; exit 1 when something stands against it.")] = (
        False
    ),
    force: Annotated[bool, typer.Option("--force", help="Move it although something stands against it.")] = False,
    reason: common.Reason = "",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Give a schedule another time, unless something stands against it: its agent at work on something else, busy
    times of calendars, missions longer than the pause between them, an hour that a clock change skips.

    Writes spec.schedule where the schedule is declared. Conflicts: exit 3, nothing is changed.

    Examples:
      remit move nightly '0 3 * * *' --dry-run
      remit move nightly '30 2 * * MON-FRI' --time-zone Europe/Berlin --reason "after the backup"
    """
    from cli import declared

    with common.store_of(context) as store:
        key = common.key_named(schedule, namespace, default_kind="schedule")
        if key.kind != "Schedule":
            raise Failure(f"{key.short} is no schedule")
        with store.snapshot() as snapshot:
            found = common.object_named(snapshot, key)
            spec = _changed(found, cron, time_zone)
            zone = span.zone_of(spec.time_zone)
            begin, end = span.window(None, length, zone)
            against = _against(snapshot, found, spec, begin, end)
        _tell(found, spec, against, begin)
        if dry_run:
            if against:
                raise typer.Exit(int(Exit.DIFFERENT))
            return
        if against and not force:
            raise Failure(
                f"{key.short} was not moved: something stands against it",
                hint="another time, or the same command with --force",
                code=Exit.REFUSED,
            )
        edits: list[tuple[tuple[str | int, ...], Any]] = [(("spec", "schedule"), spec.schedule)]
        if time_zone is not None:
            edits.append((("spec", "timeZone"), spec.time_zone))
        why = f"Move {key.short} to {spec.schedule} {spec.time_zone}" + (f"\n\n{reason}" if reason else "")
        if found.spec.get("schedule") == spec.schedule and found.spec.get("timeZone") == spec.time_zone:
            print(f"{key.short} stays as it is: that is its time")
            return
        done = declared.change(common.project_of(context), store, found, edits, why)
    print(f"moved {key.short} to {spec.schedule} {spec.time_zone}; changed in {done.where}")


def _changed(found: Resource, cron: str, time_zone: str | None) -> ScheduleSpec:
    from schemas.cron import require_cron
    from schemas.schedule import ScheduleSpec

    try:
        schedule = require_cron(cron)
    except ValueError as error:
        raise Failure(f"{cron[:60]!r} is no schedule: {error}", hint="remit explain schedule.spec.schedule") from None
    zone = found.spec.get("timeZone", "UTC") if time_zone is None else span.zone_of(time_zone).key
    return ScheduleSpec.model_validate({**found.spec, "schedule": schedule, "timeZone": zone})


def _against(snapshot: Snapshot, found: Resource, spec: ScheduleSpec, begin: datetime, end: datetime) -> list[Conflict]:
    from dataclasses import replace

    from controllers.calendars import entries
    from decisions.feed import conflicts

    plans = entries.planned(snapshot)
    moved = replace(next(plan for plan in plans if plan.key == found.key), spec=spec)
    feed = entries.gather(snapshot, begin, end, heartbeats=False)
    agent = snapshot.get(moved.agent) if moved.agent is not None else None
    places = int(agent.spec.get("maxConcurrentMissions", 1)) if agent is not None else 1
    return conflicts(moved, plans, feed.entries, max(places, 1), begin, end)


def _tell(found: Resource, spec: ScheduleSpec, against: list[Conflict], begin: datetime) -> None:
    from cli.output import safe
    from decisions.schedules import SHOWN, next_fires

    zone = span.zone_of(spec.time_zone)
    times = next_fires(spec.schedule, spec.time_zone, begin, SHOWN)
    shown = ", ".join(f"{time.astimezone(zone):%a %Y-%m-%d %H:%M}" for time in times) or "never"
    print(f"{found.key.short} at {spec.schedule} {spec.time_zone}: {shown}")
    for conflict in against:
        more = f" and {conflict.count - 1} more times" if conflict.count > 1 else ""
        print(safe(f"conflict: {conflict.first.astimezone(zone):%a %Y-%m-%d %H:%M}{more}: {conflict.message}"))
    if not against:
        print("nothing stands against it")
