"""Schedule: makes a mission for each fire that is due, with the fire's minute in its name, and puts old ones away. That
a fire was seen to and what came of it stand in one transaction, so no restart sees to it twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import groupby

from controllers.holds import effective
from controllers.holds import stops as other
from controllers.holds.stops import Stops
from controllers.reconcilers import owned, writing
from controllers.runtime.result import DONE, Result
from decisions import schedules as decisions
from decisions.finalizers import finalizers
from decisions.holds import Held, strictest
from decisions.references import references
from decisions.schedules import ScheduleDecision, ScheduleFacts, Skipped
from schemas.base import Key
from schemas.conditions import Conditions, find, set_condition
from schemas.event import EventType
from schemas.mission import TERMINAL_STATES, MissionState, MissionStatus
from schemas.quantities import format_time
from schemas.resource import RECONCILE_REQUESTED_AT, Declared, Resource
from schemas.schedule import ScheduleReason, ScheduleSpec, ScheduleStatus
from store.contract import Transaction

SCHEDULE = "remit.dev/schedule"
"""Label of its missions: the schedule's uid."""
SCHEDULED_AT = "remit.dev/scheduled-at"
"""Annotation of its missions: the fire that they were made for."""
_MANAGER = "controller/schedule"
_WHY = {
    "Missed": "missed, and not made up for",
    "TooLate": "later than startingDeadlineSeconds",
    "StillActive": "a mission had not ended, and concurrencyPolicy is Forbid",
    "Replaced": "a later fire takes its place (concurrencyPolicy is Replace)",
    "NameTaken": "another mission has its name",
}

_LAST_FIRE = (ScheduleReason.STILL_ACTIVE, ScheduleReason.MISSED)
"""What the condition says until the next fire."""


class Schedules:
    """Reconciles Schedules. ``stops`` is what stops work beside the Holds in the store."""

    def __init__(self, stops: Stops = other.NONE) -> None:
        self._stops = stops

    def __call__(self, tx: Transaction, key: Key) -> Result:
        """One pass over a Schedule."""
        schedule = tx.get(key)
        if schedule is None:
            return writing.gone(tx, key)
        if schedule.deletion_at is not None:
            return _delete(tx, schedule)
        spec, status = ScheduleSpec.model_validate(schedule.spec), ScheduleStatus.model_validate(schedule.status)
        clock = f"{spec.schedule} {spec.time_zone}"
        if status.clock != clock or status.handled_until is None:
            # Fires of the times that it had before are not made up for under the new ones.
            since = schedule.created_at if not status.clock else tx.now
            status = status.model_copy(update={"clock": clock, "handled_until": since})
        assert status.handled_until is not None
        missions = tx.objects("Mission", namespace=schedule.namespace, owner_uid=schedule.uid)
        active = tuple(m.name for m in missions if m.state not in TERMINAL_STATES)
        held = self._held(tx, schedule, spec)
        decision = decisions.decide(
            ScheduleFacts(spec, status.handled_until, active, spec.suspend or held is not None), tx.now
        )
        made, skipped = _carry_out(tx, schedule, spec, decision)
        _put_away(tx, spec, missions)
        following = decisions.next_fires(spec.schedule, spec.time_zone, tx.now, decisions.SHOWN)
        last_done = _last_done(missions)
        status = status.model_copy(
            update={
                "conditions": _conditions(tx, schedule, status.conditions, held, decision, skipped),
                "observed_generation": schedule.generation,
                "active": tuple(sorted({*active, *made})),
                "last_schedule_time": decision.make[-1] if made else status.last_schedule_time,
                "last_successful_time": last_done or status.last_successful_time,
                "next_fire_times": tuple(following),
                "missed": status.missed + len(skipped) + decision.uncounted,
                "handled_until": decision.handled_until or status.handled_until,
                "last_handled_reconcile": schedule.annotations.get(RECONCILE_REQUESTED_AT)
                or status.last_handled_reconcile,
            }
        )
        before = ScheduleStatus.model_validate(schedule.status).conditions
        schedule = writing.put_status(tx, schedule, status)
        writing.note_ready(tx, schedule, before, status.conditions)
        return writing.wake_at(tx, schedule, following[0] if following and not spec.suspend else None)

    def _held(self, tx: Transaction, schedule: Resource, spec: ScheduleSpec) -> Held | None:
        """The strictest Hold on it, on its agent, project or goal, or on everything."""
        found = effective.holds(tx, self._stops)
        if not found:
            return None
        objects: list[tuple[Key, Mapping[str, str]]] = [(schedule.key, schedule.labels)]
        template = spec.mission_template.spec
        for kind, ref in (
            ("Agent", template.agent_ref),
            ("Project", template.project_ref),
            ("Goal", template.goal_ref),
        ):
            if ref is not None:
                target = ref.key(kind, schedule.namespace)
                there = tx.get(target)
                objects.append((target, there.labels if there is not None else {}))
        return strictest(found, objects, tx.now)


def _carry_out(
    tx: Transaction, schedule: Resource, spec: ScheduleSpec, decision: ScheduleDecision
) -> tuple[list[str], tuple[Skipped, ...]]:
    """(names of the missions that were made, fires that were skipped)."""
    for name in decision.replace:
        _cancel(tx, schedule, name)
    made: list[str] = []
    skipped = list(decision.skipped)
    for fire in decision.make:
        mission = _make(tx, schedule, spec, fire)
        if mission is None:
            skipped.append(Skipped(fire, "NameTaken"))
        else:
            made.append(mission)
    for why, group in groupby(sorted(skipped, key=lambda s: s.why), key=lambda s: s.why):
        fires = sorted(s.fire for s in group)
        uncounted = decision.uncounted if why in ("Missed", "TooLate") else 0
        _tell_skipped(tx, schedule, why, fires, uncounted)
    return made, tuple(skipped)


def _make(tx: Transaction, schedule: Resource, spec: ScheduleSpec, fire: datetime) -> str | None:
    """Make the mission of a fire; None when its name belongs to somebody else's."""
    key = Key("Mission", schedule.namespace, decisions.mission_name(schedule.name, fire))
    known = tx.get(key)
    if known is not None:
        return known.name if known.owner_uid == schedule.uid else None
    template = spec.mission_template
    declared = Declared(
        *key,
        template.spec.to_wire(),
        labels={**template.metadata.labels, SCHEDULE: schedule.uid},
        annotations={**template.metadata.annotations, SCHEDULED_AT: format_time(fire)},
    )
    mission = tx.create(declared, manager=_MANAGER, owner_uid=schedule.uid, finalizers=finalizers("Mission"))
    tx.event(
        EventType.SCHEDULE_FIRED,
        schedule,
        reason="OnTime" if tx.now - fire <= decisions.ON_TIME else "CaughtUp",
        message=f"{mission.key.short} for {format_time(fire)}",
        data={"mission": mission.name, "fire": format_time(fire), "related": [mission.uid]},
    )
    tx.event(
        EventType.CREATED,
        mission,
        reason="Scheduled",
        message=f"by {schedule.key.short} for {format_time(fire)}",
        data={"related": [schedule.uid]},
    )
    return mission.name


def _cancel(tx: Transaction, schedule: Resource, name: str) -> None:
    """Let a mission make place for the next one."""
    mission = tx.get(Key("Mission", schedule.namespace, name))
    if mission is None or mission.spec.get("desiredState") == "Canceled":
        return
    declared = Declared(*mission.key, {**mission.spec, "desiredState": "Canceled"})
    declared = replace(declared, labels=mission.labels, annotations=mission.annotations)
    mission = tx.put_spec(mission, declared, manager=mission.manager)
    text = f"{schedule.key.short} fires again, and concurrencyPolicy is Replace"
    tx.event(EventType.UPDATED, mission, reason="Replaced", message=text, data={"related": [schedule.uid]})


def _tell_skipped(tx: Transaction, schedule: Resource, why: str, fires: list[datetime], uncounted: int) -> None:
    first, last = format_time(fires[0]), format_time(fires[-1])
    count = len(fires) + uncounted
    when = first if count == 1 else f"{count}, the last of them {last}"
    tx.event(
        EventType.FIRE_SKIPPED,
        schedule,
        reason=why,
        message=f"{when}: {_WHY[why]}",
        data={"count": count, "first": first, "last": last},
    )


def _put_away(tx: Transaction, spec: ScheduleSpec, missions: Iterable[Resource]) -> None:
    """Delete what ended, beyond what the history keeps; the oldest first."""
    good: list[Resource] = []
    bad: list[Resource] = []
    for mission in sorted(missions, key=lambda m: (str(m.status.get("finishedAt") or ""), m.name)):
        if mission.state in TERMINAL_STATES and mission.deletion_at is None:
            (good if mission.state == MissionState.DONE else bad).append(mission)
    for ended, keep in ((good, spec.successful_history_limit), (bad, spec.failed_history_limit)):
        for mission in ended[: max(0, len(ended) - keep)]:
            tx.event(EventType.DELETION_REQUESTED, mission, reason="History", message=f"its schedule keeps {keep}")
            tx.request_deletion(mission)


def _last_done(missions: Iterable[Resource]) -> datetime | None:
    times = [MissionStatus.model_validate(m.status).finished_at for m in missions if m.state == MissionState.DONE]
    return max((t for t in times if t is not None), default=None)


def _conditions(
    tx: Transaction,
    schedule: Resource,
    old: Conditions,
    held: Held | None,
    decision: ScheduleDecision,
    skipped: tuple[Skipped, ...],
) -> Conditions:
    spec = ScheduleSpec.model_validate(schedule.spec)
    before = find(old, "Ready")
    ready, reason, message = True, ScheduleReason.RECONCILED, f"{spec.schedule} ({spec.time_zone})"
    missing = next((r for r in references(schedule.namespace, schedule.spec) if tx.get(r.target) is None), None)
    if spec.suspend:
        ready, reason, message = False, ScheduleReason.SUSPENDED, "spec.suspend is set"
    elif held is not None:
        ready, reason, message = False, ScheduleReason.HELD, held.hint
    elif missing is not None:
        field = ".".join(str(part) for part in missing.field)
        ready, reason, message = (
            False,
            ScheduleReason.REFERENCE_NOT_FOUND,
            f"{field}: there is no {missing.target.short}",
        )
    elif decision.waits or any(s.why == "StillActive" for s in skipped):
        reason, message = ScheduleReason.STILL_ACTIVE, _WHY["StillActive"]
    elif any(s.why in ("Missed", "TooLate") for s in skipped):
        reason, message = ScheduleReason.MISSED, _WHY["Missed"]
    elif not decision.make and before is not None and before.reason in _LAST_FIRE:
        reason, message = ScheduleReason(before.reason), before.message  # what became of the last fire still holds
    return set_condition(old, "Ready", ready, reason, message, now=tx.now, generation=schedule.generation)


def _delete(tx: Transaction, schedule: Resource) -> Result:
    """Its missions go first."""
    left = owned.let_go(tx, schedule, ("Mission",))
    if not left:
        return owned.finish(tx, schedule, "its missions are gone")
    status = ScheduleStatus.model_validate(schedule.status)
    text = f"deletion waits for {left} missions to end"
    conditions = set_condition(
        status.conditions, "Ready", False, ScheduleReason.DELETING, text, now=tx.now, generation=schedule.generation
    )
    schedule = writing.put_status(tx, schedule, status.model_copy(update={"conditions": conditions}))
    writing.note_ready(tx, schedule, status.conditions, conditions)
    tx.clear_timer(schedule.key, writing.WAKE)
    return DONE
