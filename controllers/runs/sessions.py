"""The Session of an agent on a mission: found or made when there is something to keep in it."""

from __future__ import annotations

from schemas.base import Key, ObjectRef
from schemas.conditions import set_condition
from schemas.event import EventType
from schemas.loop import Asked, MissionLoop, SessionLoop
from schemas.mission import MissionStatus
from schemas.resource import Declared, Resource, digest
from schemas.run import RunSpec
from schemas.session import SessionReason, SessionSpec, SessionStatus
from store.contract import Snapshot, Transaction


def session_name(mission: str, mission_uid: str, agent_uid: str) -> str:
    """``<mission>-<8 digits>``; deterministic, so that there is one for each agent on a mission."""
    return f"{mission[:200].rstrip('-.')}-{digest([mission_uid, agent_uid])[7:15]}"


def key_of(run: Resource) -> Key:
    """Of the session that a run belongs to."""
    spec = run.spec  # as it is: asked for with every call of an agent
    name = session_name(str(spec["missionRef"]["name"]), str(spec["missionUid"]), str(spec["agentUid"]))
    return Key("Session", run.namespace, name)


def find(snapshot: Snapshot, run: Resource) -> Resource | None:
    """The session of a run, or None while it has none."""
    return snapshot.get(key_of(run))


def of_run(tx: Transaction, run: Resource) -> Resource:
    """The session of a run; made, with its event, when there is none."""
    key = key_of(run)
    known = tx.get(key)
    if known is not None:
        return known
    spec = RunSpec.model_validate(run.spec)
    return _make(tx, key, spec.agent_ref, spec.agent_uid, spec.mission_ref.name, spec.mission_uid)


def known(snapshot: Snapshot, mission: Resource) -> Resource | None:
    """The session of a mission with the agent that it is assigned to, or None while it has none."""
    key = _of(snapshot, mission)
    return snapshot.get(key) if key is not None else None


def _of(snapshot: Snapshot, mission: Resource) -> Key | None:
    assigned = MissionStatus.model_validate(mission.status).agent
    agent = snapshot.get(assigned.key("Agent", mission.namespace)) if assigned is not None else None
    return Key("Session", mission.namespace, session_name(mission.name, mission.uid, agent.uid)) if agent else None


def of_mission(tx: Transaction, mission: Resource) -> Resource | None:
    """The session of a mission with the agent that it is assigned to; made when there is none. None without agent."""
    assigned = MissionStatus.model_validate(mission.status).agent
    agent = tx.get(assigned.key("Agent", mission.namespace)) if assigned is not None else None
    if assigned is None or agent is None:
        return None
    key = Key("Session", mission.namespace, session_name(mission.name, mission.uid, agent.uid))
    return tx.get(key) or _make(tx, key, assigned, agent.uid, mission.name, mission.uid)


def labels(**names: str | None) -> dict[str, str]:
    """What a record is found by with a selector: ``remit.dev/agent=NAME``; a label has room for 63 characters."""
    return {f"remit.dev/{word}": name[:63].rstrip("-.") for word, name in names.items() if name}


def _make(tx: Transaction, key: Key, agent: ObjectRef, agent_uid: str, mission: str, mission_uid: str) -> Resource:
    conditions = set_condition((), "Ready", True, SessionReason.OPEN, "", now=tx.now, generation=1)
    spec = SessionSpec(agent_ref=agent, mission_ref=ObjectRef(name=mission))
    session = tx.create(
        Declared("Session", key.namespace, key.name, spec.to_wire(), labels=labels(agent=agent.name, mission=mission)),
        manager="controller/sessions",
        owner_uid=mission_uid,
        status=SessionStatus(conditions=conditions, observed_generation=1).to_wire(),
    )
    tx.event(
        EventType.CREATED,
        session,
        reason="Opened",
        message=f"{agent.name} on {mission}",
        data={"related": [mission_uid, agent_uid]},
    )
    return session


def counts(session: Resource, mission: Resource | None) -> SessionLoop:
    """What is counted of a session. Counts from before a person's reset of the mission are void."""
    loop = SessionStatus.model_validate(session.status).loop or SessionLoop()
    epoch = mission_loop(mission).epoch
    return loop if loop.epoch == epoch else SessionLoop(epoch=epoch)


def mission_loop(mission: Resource | None) -> MissionLoop:
    """What is counted of a mission; nothing where it is gone."""
    if mission is None or mission.status.get("loop") is None:
        return MissionLoop()
    return MissionStatus.model_validate(mission.status).loop or MissionLoop()


def asked(session: Resource, mission: Resource) -> Asked:
    """The calls that leave was asked for, alone: they are read and written with each of them."""
    loop = session.status.get("loop") or {}
    known = loop.get("asked")
    if known is None or int(loop.get("epoch", 0)) != mission_epoch(mission):
        return Asked()
    same = {name: (int(began), int(times)) for name, (began, times) in known["same"].items()}
    return Asked.model_construct(**{**known, "in_minute": known["inMinute"], "same": same})


def keep_asked(tx: Transaction, session: Resource, mission: Resource, calls: Asked) -> Resource:
    """Write them, and leave the other counts as they are, unless they are void."""
    epoch = mission_epoch(mission)
    loop = session.status.get("loop") or {}
    if int(loop.get("epoch", 0)) != epoch or not loop:
        loop = SessionLoop(epoch=epoch).to_wire()
    wire = {
        "run": calls.run,
        "calls": calls.calls,
        "minute": calls.minute,
        "inMinute": calls.in_minute,
        "same": {name: list(seen) for name, seen in calls.same.items()},
    }
    return tx.put_status(session, {**session.status, "loop": {**loop, "asked": wire}})


def mission_epoch(mission: Resource) -> int:
    """How often the counts of a mission were begun anew."""
    return int((mission.status.get("loop") or {}).get("epoch", 0))


def keep(tx: Transaction, session: Resource, loop: SessionLoop) -> Resource:
    """Write the counts."""
    status = SessionStatus.model_validate(session.status)
    return tx.put_status(session, status.model_copy(update={"loop": loop}).to_wire())
