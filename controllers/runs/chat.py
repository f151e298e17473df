"""What a person says in the thread of a mission or a project, and to whom it goes.

In the thread of a mission it goes to the agent of the mission. In that of a project it goes to the agents that it
mentions, or whose message it answers, for their missions of this project, and to nobody's else. A text that begins with
a slash is a command.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from controllers.holds import stops as other
from controllers.holds.stops import Stops
from controllers.runs import mentions, message_record, messages, sessions, threads
from controllers.runs.text import clean, line
from decisions import chat
from decisions.chat import Command
from schemas.base import Key, ObjectRef
from schemas.errors import NotFound, Refused
from schemas.message import Direction, MessageReason, MessageSpec, MessageState
from schemas.mission import TERMINAL_STATES, MissionState, MissionStatus
from schemas.resource import Actor, ActorKind, Resource
from schemas.run import RunStatus
from schemas.session import SessionStatus
from schemas.thread import ThreadOf
from store.contract import Snapshot, Transaction

ENGINE = Actor(ActorKind.SYSTEM, "controller:chat", "Engine")
"""Who answers a command that no agent takes."""
_UNFINISHED = tuple(s.value for s in MissionState if s not in TERMINAL_STATES)
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Heard:
    """What was said, where it stands, and the agents that get it as ``agent on mission``. ``answer`` is what the engine
    said to it at once; ``note`` says why nobody gets it, or why somebody gets it later."""

    message: Resource
    thread: Resource
    told: tuple[str, ...] = ()
    answer: Resource | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Line:
    """What is said, before it is known to whom it goes."""

    author: Actor
    key: str
    spec: MessageSpec
    command: Command | None


def subject_of(snapshot: Snapshot, target: Resource) -> Resource:
    """Where something said to ``target`` stands: itself, and for an agent the mission that it is on. Raises Refused
    (NoThread, NothingToTalkAbout, ManyMissions)."""
    if target.kind != "Agent":
        threads.key_of(target)
        return target
    found = [m for m in snapshot.objects("Mission", namespace=target.namespace, states=_UNFINISHED) if _on(m, target)]
    at_work = [m for m in found if m.status.get("currentRun")]
    chosen = at_work if len(at_work) == 1 else found
    if len(chosen) == 1:
        return chosen[0]
    if not chosen:
        raise Refused(f"{target.key.short} has no mission to talk about", reason="NothingToTalkAbout")
    names = ", ".join(m.key.short for m in chosen[:_SHOWN])
    raise Refused(f"{target.key.short} is on {len(chosen)} missions: name one of {names}", reason="ManyMissions")


def say(
    tx: Transaction,
    subject: Resource,
    author: Actor,
    text: str,
    *,
    key: str,
    reply_to: str = "",
    external_id: str = "",
    stops: Stops = other.NONE,
) -> Heard:
    """A person says something in the thread of a mission or a project. ``reply_to`` is the uid of the message that it
    answers. Repeated with its key it changes nothing. Raises Refused (NoThread), NotFound."""
    thread = threads.of(tx, subject)
    text = clean(text, messages.TEXT)
    command = chat.command_of(text)
    spec = MessageSpec(
        direction=Direction.INBOUND,
        author=author.subject,
        text=text,
        thread_ref=ObjectRef(name=thread.name),
        mission_ref=ObjectRef(name=subject.name) if subject.kind == ThreadOf.MISSION else None,
        in_reply_to=_answered(tx, thread, reply_to),
        mentions=mentions.subjects(tx, subject.namespace, text),
        command=command.name if command is not None else "",
        arguments=command.arguments if command is not None else "",
        external_id=external_id,
        idempotency_key=key,
    )
    said = _Line(author, key, spec, command)
    heard = _in_mission(tx, subject, thread, said, stops) if subject.kind == ThreadOf.MISSION else _in_project(
        tx, subject, thread, said, stops
    )  # fmt: skip
    current = tx.get(thread.key)
    assert current is not None
    return replace(heard, thread=current)


def _in_mission(tx: Transaction, mission: Resource, thread: Resource, said: _Line, stops: Stops) -> Heard:
    over = mission.state in TERMINAL_STATES
    session = None if over else sessions.of_mission(tx, mission)
    offered = _offers(session)
    if said.command is not None and said.command.name not in offered:
        return _engine_answers(tx, mission, thread, said, [session] if session is not None else [])
    if session is None:
        note = f"{mission.key.short} is over" if over else f"no agent is assigned to {mission.key.short}"
        return Heard(_post(tx, thread, said, mission), thread, note=f"{note}: nobody is told")
    message = _tell(tx, session, said, stops)
    return Heard(message, thread, (_told(session, mission.name),), note=_later(mission))


def _in_project(tx: Transaction, project: Resource, thread: Resource, said: _Line, stops: Stops) -> Heard:
    wanted = set(mentions.agents(said.spec.mentions, project.namespace))
    answered = tx.get_by_uid(said.spec.in_reply_to) if said.spec.in_reply_to else None
    reached: list[tuple[Resource, Resource]] = []
    known: list[Resource] = []
    for mission in tx.objects("Mission", namespace=project.namespace, states=_UNFINISHED):
        assigned = MissionStatus.model_validate(mission.status).agent
        if (mission.spec.get("projectRef") or {}).get("name") != project.name or assigned is None:
            continue
        session = sessions.of_mission(tx, mission) if assigned.name in wanted else sessions.known(tx, mission)
        if session is None:
            continue
        known.append(session)
        mine = answered is not None and (answered.spec.get("sessionRef") or {}).get("name") == session.name
        if assigned.name in wanted or mine:
            reached.append((mission, session))
    if said.command is not None and not any(said.command.name in _offers(s) for _, s in reached):
        return _engine_answers(tx, project, thread, said, known)
    message = _post(tx, thread, said, project)
    told = []
    for mission, session in reached:
        if said.command is not None and said.command.name not in _offers(session):
            continue
        copy = said.spec.model_copy(update={"copy_of": message.uid})
        _tell(tx, session, replace(said, spec=copy, key=f"{said.key}/{session.uid}"), stops)
        told.append(_told(session, mission.name))
    missed = wanted - {str(s.spec["agentRef"]["name"]) for _, s in reached}
    note = f"not on a mission of {project.key.short}: {', '.join(sorted(missed))}" if missed else ""
    return Heard(message, thread, tuple(told), note=note)


def _tell(tx: Transaction, session: Resource, said: _Line, stops: Stops) -> Resource:
    current = tx.get(session.key) or session
    asks = said.command is not None and said.command.name in chat.ASKING
    spec = said.spec.model_copy(update={"idempotency_key": said.key})
    return messages.person_says(
        tx, current, said.author, spec.text, key=said.key, external_id=spec.external_id, draft=spec, asks=asks,
        stops=stops,
    )  # fmt: skip


def _post(tx: Transaction, thread: Resource, said: _Line, subject: Resource) -> Resource:
    """Put it in the thread, for people alone."""
    key = message_record.key_in(thread, said.key)
    known = tx.get(key)
    if known is not None:
        return known
    return message_record.create(
        tx,
        key,
        said.spec,
        owner_uid=subject.uid,
        session=None,
        state=MessageState.DELIVERED,
        reason=MessageReason.DELIVERED,
        actor=said.author,
    )


def _engine_answers(
    tx: Transaction, subject: Resource, thread: Resource, said: _Line, known: list[Resource]
) -> Heard:  # fmt: skip
    """A command that no agent takes is answered from the store, in the same transaction."""
    assert said.command is not None
    message = _post(tx, thread, said, subject)
    name = said.command.name
    if name == chat.HELP:
        text = _help(known)
    elif name == chat.STATUS:
        text = _mission_status(tx, subject) if subject.kind == ThreadOf.MISSION else _project_status(tx, subject)
    else:
        text = f"nobody here takes /{name}.\n{_help(known)}"
    spec = MessageSpec(
        direction=Direction.OUTBOUND,
        author=ENGINE.subject,
        text=clean(text, messages.TEXT),
        thread_ref=ObjectRef(name=thread.name),
        mission_ref=said.spec.mission_ref,
        in_reply_to=message.uid,
        idempotency_key=f"{said.key}/answer",
    )
    key = message_record.key_in(thread, spec.idempotency_key)
    answer = tx.get(key) or message_record.create(
        tx, key, spec, owner_uid=subject.uid, session=None, state=MessageState.DELIVERED,
        reason=MessageReason.DELIVERED, actor=ENGINE,
    )  # fmt: skip
    return Heard(message, thread, answer=answer)


def _help(known: list[Resource]) -> str:
    lines = ["/help: what can be asked here", "/status: how things stand"]
    for session in known:
        agent = session.spec["agentRef"]["name"]
        lines += [
            f"/{c.name}: {c.description or 'no description'} (of {agent})"
            for c in SessionStatus.model_validate(session.status).commands
        ]
    return "\n".join(lines)


def _mission_status(tx: Transaction, mission: Resource) -> str:
    status = MissionStatus.model_validate(mission.status)
    agent = status.agent.name if status.agent is not None else "nobody"
    lines = [f"{mission.name}: {status.state}, {agent}"]
    run = tx.get(Key("Run", mission.namespace, status.current_run)) if status.current_run else None
    if run is not None:
        doing = RunStatus.model_validate(run.status)
        far = f" ({doing.percent} %)" if doing.percent is not None else ""
        lines.append(f"{run.name}: {doing.state}{far}" + (f": {line(doing.progress)}" if doing.progress else ""))
    lines += [f"waits for {b.type} {b.ref}".rstrip() + (f": {b.hint}" if b.hint else "") for b in status.blocked_on[:5]]
    return "\n".join(lines)


def _project_status(tx: Transaction, project: Resource) -> str:
    found = [
        m
        for m in tx.objects("Mission", namespace=project.namespace, states=_UNFINISHED)
        if (m.spec.get("projectRef") or {}).get("name") == project.name
    ]
    lines = [f"{project.name}: {project.status.get('stage') or project.spec.get('stage')}, {len(found)} open missions"]
    for mission in found[:_SHOWN]:
        agent = MissionStatus.model_validate(mission.status).agent
        lines.append(f"{mission.name}: {mission.state}" + (f", {agent.name}" if agent is not None else ""))
    return "\n".join(lines)


def _answered(tx: Transaction, thread: Resource, uid: str) -> str:
    """The uid, where it is of a message of this thread. Raises NotFound."""
    if not uid:
        return ""
    message = tx.get_by_uid(uid)
    if message is None or message.kind != "Message" or message.spec.get("threadRef") != {"name": thread.name}:
        raise NotFound(f"{threads.place(thread)} holds no message {uid[:60]!r}")
    return uid


def _offers(session: Resource | None) -> frozenset[str]:
    return frozenset(str(c["name"]) for c in session.status.get("commands", ())) if session is not None else frozenset()


def _on(mission: Resource, agent: Resource) -> bool:
    ref = mission.status.get("agent") or {}
    return ref.get("name") == agent.name and (ref.get("namespace") or mission.namespace) == agent.namespace


def _told(session: Resource, mission: str) -> str:
    return f"{session.spec['agentRef']['name']} on {mission}"


def _later(mission: Resource) -> str:
    return "" if mission.status.get("currentRun") else "its agent is not at work: it gets this with its next run"
