"""What is due when, gathered from the store for ``decisions.feed``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from statistics import median_low
from typing import Any

from decisions.feed import Entry, Feed, Planned, Sort, feed
from schemas.base import Key, ObjectRef
from schemas.mission import TERMINAL_STATES, MissionState
from schemas.quantities import format_time, parse_duration, parse_time
from schemas.resource import Resource
from schemas.run import ACTIVE_STATES
from schemas.schedule import ScheduleReason, ScheduleSpec
from store.contract import Snapshot

_LATELY = 5
"""Missions of a schedule from which the length of the next one is guessed."""
_OPEN_STATES = tuple(state for state in MissionState if state not in TERMINAL_STATES)


def gather(
    snapshot: Snapshot, begin: datetime, end: datetime, *, namespace: str | None = None, heartbeats: bool = True
) -> Feed:
    """The feed of a namespace (None: of all) in [begin, end). Reads schedules, goals, to-dos and what is open, never
    the missions that have ended."""
    return feed(planned(snapshot, namespace), _others(snapshot, namespace, heartbeats), begin, end)


def planned(snapshot: Snapshot, namespace: str | None = None) -> list[Planned]:
    """The schedules, each with how long its missions took lately."""
    return [_planned(snapshot, schedule) for schedule in snapshot.objects("Schedule", namespace=namespace)]


def _planned(snapshot: Snapshot, schedule: Resource) -> Planned:
    spec = ScheduleSpec.model_validate(schedule.spec)
    stands = "suspended" if spec.suspend else "being deleted" if schedule.deletion_at is not None else ""
    ready = _ready_reason(schedule.status)
    if not stands and ready == ScheduleReason.HELD:
        stands = "held"
    template = spec.mission_template.spec
    ref = template.agent_ref
    return Planned(
        schedule.key,
        template.title,
        spec,
        ref.key("Agent", schedule.namespace) if ref is not None else None,
        _length(snapshot, schedule),
        stands,
    )


def _ready_reason(status: Mapping[str, Any]) -> str:
    """The reason of the condition Ready in a status as it is stored; "" without one."""
    for condition in status.get("conditions", ()):
        if condition["type"] == "Ready":
            return str(condition["reason"])
    return ""


def _length(snapshot: Snapshot, schedule: Resource) -> timedelta | None:
    """The middle of what its latest missions took from start to end."""
    found = []
    for mission in snapshot.objects(
        "Mission", namespace=schedule.namespace, owner_uid=schedule.uid, states=[MissionState.DONE]
    ):
        started, finished = mission.status.get("startedAt"), mission.status.get("finishedAt")
        if started and finished:
            ended = parse_time(finished)
            found.append((ended, ended - parse_time(started)))
    latest = sorted(found)[-_LATELY:]
    return median_low([length for _, length in latest]) if latest else None


def _others(snapshot: Snapshot, namespace: str | None, heartbeats: bool) -> Iterator[Entry]:
    for mission in snapshot.objects("Mission", namespace=namespace, states=_OPEN_STATES):
        yield from _mission(mission)
    for goal in snapshot.objects("Goal", namespace=namespace):
        yield from _goal(goal)
    for todo in snapshot.objects("Todo", namespace=namespace):
        yield from _todo(todo)
    for calendar in snapshot.objects("Calendar", namespace=namespace):
        yield from _busy(calendar)
    if heartbeats:
        for run in snapshot.objects("Run", namespace=namespace, states=ACTIVE_STATES):
            yield from _heartbeat(snapshot, run)


def _mission(mission: Resource) -> Iterator[Entry]:
    title, agent = str(mission.spec.get("title", mission.name)), _agent(mission)
    started = mission.status.get("startedAt")
    limit = mission.spec.get("deadline")
    due = parse_time(started) + parse_duration(limit) if started and limit else None
    if started:
        yield Entry(parse_time(started), due, Sort.RUN, mission.key, title, agent, str(mission.state), due is not None)
    if due is not None:
        yield Entry(due, None, Sort.DEADLINE, mission.key, title, agent)


def _goal(goal: Resource) -> Iterator[Entry]:
    title = str(goal.spec.get("objective", goal.name)).splitlines()[0][:200]
    if goal.spec.get("deadline"):
        yield Entry(parse_time(goal.spec["deadline"]), None, Sort.DEADLINE, goal.key, title)
    look = goal.status.get("nextReviewTime")
    if look and not goal.spec.get("suspend"):
        yield Entry(parse_time(look), None, Sort.LOOK, goal.key, title, note=f"every {goal.spec.get('cadence', '')}")


def _todo(todo: Resource) -> Iterator[Entry]:
    due = todo.spec.get("dueDate")
    if due is None or todo.spec.get("state") == "Done" or todo.status.get("doneAt"):
        return
    day = due if isinstance(due, date) else date.fromisoformat(str(due))
    start = datetime.combine(day, time(), UTC)
    yield Entry(
        start, start + timedelta(days=1), Sort.TODO, todo.key, str(todo.spec.get("title", "")),
        note=str(todo.spec.get("assignee") or ""), all_day=True,
    )  # fmt: skip


def _busy(calendar: Resource) -> Iterator[Entry]:
    if not calendar.spec.get("busy", True) or calendar.spec.get("suspend"):
        return
    for time_ in calendar.status.get("busy", ()):
        start, end = parse_time(time_["start"]), parse_time(time_["end"])
        yield Entry(start, end, Sort.BUSY, calendar.key, str(time_.get("title", "busy")))


def _heartbeat(snapshot: Snapshot, run: Resource) -> Iterator[Entry]:
    """When the next sign of life of a run is expected, and from when its silence counts."""
    agent = ObjectRef.model_validate(run.spec["agentRef"]).key("Agent", run.namespace)
    declared = snapshot.get(agent)
    last = run.status.get("lastHeartbeatTime") or run.status.get("startedAt")
    if declared is None or not last:
        return
    beat = declared.spec.get("heartbeat", {})
    interval, stale = beat.get("interval", "30s"), beat.get("staleAfter", "5m")
    at = parse_time(last)
    yield Entry(
        at + parse_duration(interval), at + parse_duration(stale), Sort.HEARTBEAT, run.key,
        f"sign of life of {run.name}", agent, f"counts as stale after {stale}",
    )  # fmt: skip


def _agent(mission: Resource) -> Key | None:
    ref = mission.status.get("agent") or mission.spec.get("agentRef")
    return ObjectRef.model_validate(ref).key("Agent", mission.namespace) if ref else None


def ref(key: Key) -> dict[str, str]:
    """A key as JSON."""
    return {"kind": key.kind, "namespace": key.namespace, "name": key.name}


def wire(entry: Entry) -> dict[str, Any]:
    """An entry as JSON: times in UTC; ``end``, ``agent`` and ``note`` only where there is one. The same for the command
    line and for HTTP."""
    made: dict[str, Any] = {"start": format_time(entry.start), "type": entry.sort.value, "subject": ref(entry.subject)}
    if entry.end is not None:
        made["end"] = format_time(entry.end)
    made["title"] = entry.title
    if entry.agent is not None:
        made["agent"] = ref(entry.agent)
    if entry.note:
        made["note"] = entry.note
    return {**made, "expected": entry.expected, "allDay": entry.all_day}
