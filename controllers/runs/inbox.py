"""What the engine asks of a working agent now: computed from the record and the Holds in force, never stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from controllers.holds import effective, lineage
from controllers.holds import stops as other
from controllers.holds.stops import Stops
from controllers.runs import sessions, threads
from controllers.runs.run_record import agent_of
from decisions.holds import Held, HoldFacts, strictest
from schemas.base import Key
from schemas.hold import HoldMode
from schemas.message import MessageSpec
from schemas.mission import MissionSpec
from schemas.parsed import parsed
from schemas.protocol import Notice, NoticeType
from schemas.resource import Resource
from schemas.run import RunSpec, RunStatus
from store.contract import Snapshot

MESSAGE = "message/"
"""How the ids of notices that are messages begin."""


def notices(snapshot: Snapshot, run: Resource, now: datetime) -> tuple[Notice, ...]:
    """Cancel while the run is being stopped, Drain while a Hold drains it; the most urgent first."""
    status = parsed(RunStatus, run.status)
    found = []
    if status.cancel_requested_at is not None:
        found.append(
            Notice(
                id=f"cancel/{run.uid}",
                type=NoticeType.CANCEL,
                reason=status.cancel_reason or "stopped on request",
                since=status.cancel_requested_at,
            )
        )
    drain = _drain(snapshot, run, now)
    if drain is not None:
        found.append(drain)
    return (*found, *_messages(snapshot, run))


def _messages(snapshot: Snapshot, run: Resource) -> list[Notice]:
    """What people said and what the agent asked to be told, that it has not acknowledged, oldest first."""
    session = sessions.find(snapshot, run)
    names = session.status.get("inbound", ()) if session is not None else ()
    keys = [Key("Message", run.namespace, str(name)) for name in names]
    there = snapshot.get_many(keys) if keys else {}
    found = [there[key] for key in keys if key in there]
    refs = {m.name: str(m.spec["threadRef"]["name"]) for m in found if m.spec.get("threadRef")}
    threads_ = snapshot.get_many({Key("Thread", run.namespace, name) for name in refs.values()}) if refs else {}
    return [_notice(m, threads_.get(Key("Thread", run.namespace, refs.get(m.name, "")))) for m in found]


def _notice(message: Resource, thread: Resource | None) -> Notice:
    spec = parsed(MessageSpec, message.spec)
    type_, reason = NoticeType.MESSAGE, "a person said something"
    if spec.follow_up:
        type_, reason = NoticeType.FOLLOW_UP, "what the agent asked to be told is due"
    elif spec.command:
        type_, reason = NoticeType.COMMAND, "a person gave a command"
    return Notice(
        id=f"{MESSAGE}{message.uid}",
        type=type_,
        reason=reason,
        since=message.created_at,
        author=spec.author,
        text=spec.text,
        command=spec.command or None,
        arguments=spec.arguments if spec.command else None,
        thread=threads.place(thread) if thread is not None else None,
        cursor=spec.sequence or None,
    )


def held(snapshot: Snapshot, run: Resource, now: datetime, stops: Stops = other.NONE) -> Held | None:
    """The strictest Hold in force on the run: on its mission, agent, executor, project or goal."""
    return strictest_on(snapshot, run, effective.holds(snapshot, stops), now)


def strictest_on(snapshot: Snapshot, run: Resource, holds: Iterable[HoldFacts], now: datetime) -> Held | None:
    """The strictest of ``holds`` in force on the run; what it works with is only read when there is any."""
    in_force = [hold for hold in holds if hold.in_force(now)]
    if not in_force:
        return None
    return strictest(in_force, held_with(snapshot, run), now)


def _drain(snapshot: Snapshot, run: Resource, now: datetime) -> Notice | None:
    found = held(snapshot, run, now)
    # Hold stops nothing that runs; Stop becomes a Cancel as soon as the mission's reconciler has seen it.
    if found is None or found.mode is not HoldMode.DRAIN:
        return None
    uid = next(hold.uid for hold in snapshot.get_many([found.hold]).values())
    return Notice(id=f"drain/{uid}", type=NoticeType.DRAIN, reason=found.reason, since=found.since, until=found.until)


def held_with(snapshot: Snapshot, run: Resource) -> list[tuple[Key, Mapping[str, str]]]:
    """The objects whose Hold is also one on this run, with their labels."""
    spec = parsed(RunSpec, run.spec)
    mission = spec.mission_ref.key("Mission", run.namespace)
    keys = [mission, agent_of(run), spec.executor_ref.key("Executor", run.namespace)]
    found = snapshot.get_many([mission])
    if mission in found:
        declared = parsed(MissionSpec, found[mission].spec)
        for kind, ref in (("Project", declared.project_ref), ("Goal", declared.goal_ref)):
            if ref is not None:
                keys.append(ref.key(kind, mission.namespace))
    agent = snapshot.get(agent_of(run))
    above = lineage.ancestors(snapshot, agent) if agent is not None else []
    found = snapshot.get_many(keys)
    return above + [(key, dict(found[key].labels) if key in found else {}) for key in keys]
