"""What is said in a session, by its agent and by people, and when it goes out.

Nothing here knows how a message travels: one that goes out is Delivered in the store, where whatever carries it on
finds it. Each session stands for itself: its events are decided one after another by ``decisions.conversation``, and
what follows from one, its state, its messages and its timer, is written in the transaction that brings it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controllers.holds import effective
from controllers.holds import stops as other
from controllers.holds.stops import Stops
from controllers.runs import loop_facts, message_record, sessions, threads, thresholds
from controllers.runs.once import Once
from controllers.runs.reports import begin_report
from controllers.runs.run_record import RunRecord
from controllers.runs.text import clean, line
from decisions import autonomy
from decisions import conversation as deciding
from decisions.autonomy import Admission, Count
from decisions.conversation import Decision, Event, Pending, State
from decisions.holds import strictest
from schemas.base import Key, ObjectRef
from schemas.conditions import set_condition
from schemas.errors import OverLimit, Refused
from schemas.event import EventType
from schemas.hold import HoldMode
from schemas.message import Direction, MessageReason, MessageSpec, MessageState
from schemas.mission import TERMINAL_STATES
from schemas.policy import DEFAULT_AUTONOMY, AutonomyLimits
from schemas.protocol import OfferedCommand
from schemas.resource import Actor, Resource
from schemas.run import ACTIVE_STATES, RunStatus
from schemas.session import ChatCommand, FollowUp, SessionReason, SessionState, SessionStatus
from schemas.thread import ThreadOf
from store.contract import EffectState, Snapshot, Transaction

TEXT = 10_000
"""Characters of a message that are kept."""
FOLLOW_UP_TEXT = 2_000
MOST_MENTIONS = 20
WAKE = "wake"
IDLE_AFTER = timedelta(hours=24)
IDLE = "nothing was said in it for a day; it opens again with the next word"


@dataclass(frozen=True, slots=True)
class Said:
    """A message as it was taken."""

    message: Resource
    due_at: datetime | None = None
    held: bool = False
    """Whether a Hold is what it waits for."""


@dataclass(frozen=True, slots=True)
class _Applied:
    session: Resource
    decision: Decision


def agent_says(
    tx: Transaction,
    run_uid: str,
    text: str,
    to: tuple[str, ...],
    in_reply_to: str,
    *,
    once: Once,
    thread: ThreadOf = ThreadOf.MISSION,
    mentions: tuple[str, ...] = (),
    stops: Stops = other.NONE,
) -> Said:
    """The agent of a run says something. An answer to a person goes out at once; anything else takes its turn, or is
    noted as Blocked. Repeated with its key it changes nothing. Raises Refused."""
    record, known = begin_report(tx, run_uid, once)
    session = sessions.of_run(tx, record.run)
    key = message_record.key_in(session, once.key)
    if known:
        message = tx.get(key)
        if message is not None:
            return Said(message, _due(tx, session, message))
    else:
        record.save()
    status = SessionStatus.model_validate(session.status)
    answered = _answered(tx, status, session, in_reply_to)
    draft = _draft(tx, record, session, clean(text, TEXT, record.redactor), once.key)
    where = answered.thread_ref if answered is not None and answered.thread_ref else _thread(tx, record, thread)
    draft = draft.model_copy(
        update={
            "thread_ref": where,
            "in_reply_to": clean(in_reply_to if answered is None or not answered.copy_of else answered.copy_of, 64),
            "mentions": tuple(sorted({*to, *mentions}))[:MOST_MENTIONS],
        }
    )
    done = _apply(tx, session, deciding.AgentSaid(key.name, in_reply_to, _named(tx, status, in_reply_to)), stops,
                  {key.name: draft})  # fmt: skip
    message = tx.get(key)
    assert message is not None  # what is said is always kept
    mission = tx.get_by_uid(record.spec.mission_uid)
    if mission is not None:
        agent = tx.get_by_uid(record.spec.agent_uid)
        loop_facts.said(tx, mission, agent, draft.author, to, f"message/{message.name}")
    if message.state != MessageState.PENDING:
        return Said(message)
    held = any(c.get("reason") == SessionReason.HELD for c in done.session.status.get("conditions", ()))
    return Said(message, done.decision.wake_at if held else _due(tx, done.session, message), held)


def asks_follow_up(
    tx: Transaction, run_uid: str, after: timedelta, text: str, *, say: bool, once: Once, stops: Stops = other.NONE
) -> FollowUp:
    """The agent of a run wants to be told something later, or to have it said to people then. Repeated with its key it
    changes nothing. Raises Refused, OverLimit (TooManyFollowUps)."""
    record, known = begin_report(tx, run_uid, once)
    session = sessions.of_run(tx, record.run)
    status = SessionStatus.model_validate(session.status)
    name = message_record.key_in(session, once.key).name
    asked = next((f for f in status.follow_ups if f.id == name), None)
    if known:
        # One that is over already is answered as it was taken, but for the moment.
        return asked or FollowUp(id=name, due_at=tx.now, say=say)
    if len(status.follow_ups) >= deciding.MOST_FOLLOW_UPS:
        first = min(f.due_at for f in status.follow_ups)
        raise OverLimit(
            f"{deciding.MOST_FOLLOW_UPS} follow-ups of this session wait already; the first is due before another fits",
            reason="TooManyFollowUps",
            after=max(1.0, (first - tx.now).total_seconds()),
        )
    record.save()
    follow_up = FollowUp(id=name, due_at=tx.now + after, say=say, text=clean(text, FOLLOW_UP_TEXT, record.redactor))
    event = deciding.FollowUpAsked(Pending(name, follow_up.due_at, say))
    session = _apply(tx, session, event, stops, asked=follow_up).session
    tx.event(
        EventType.FOLLOW_UP_ASKED,
        session,
        reason="Say" if say else "Tell",
        message=follow_up.text[:200],
        data={
            "related": [session.owner_uid],
            "followUp": name,
            "session": session.name,
            "sequence": SessionStatus.model_validate(session.status).sequence,
            "afterS": int(after.total_seconds()),
        },
    )
    return follow_up


def offers_commands(tx: Transaction, run_uid: str, commands: tuple[OfferedCommand, ...], *, once: Once) -> Resource:
    """The agent of a run says which commands it takes in chat. Repeated with its key it changes nothing. Raises
    Refused."""
    record, known = begin_report(tx, run_uid, once)
    if known:
        return record.run
    record.save()
    session = sessions.of_run(tx, record.run)
    status = SessionStatus.model_validate(session.status)
    offered = tuple(
        ChatCommand(name=c.name, description=line(c.description, 200, record.redactor))
        for c in sorted(commands, key=lambda c: c.name)
    )
    if offered != status.commands:
        session = tx.put_status(session, status.model_copy(update={"commands": offered}).to_wire())
        names = ", ".join(f"/{c.name}" for c in offered)
        data = {"related": [session.owner_uid]}
        tx.event(EventType.COMMANDS_OFFERED, session, reason="Offered", message=names[:500], data=data)
    return record.run


def person_says(
    tx: Transaction,
    session: Resource,
    author: Actor,
    text: str,
    *,
    key: str,
    external_id: str = "",
    draft: MessageSpec | None = None,
    asks: bool = False,
    stops: Stops = other.NONE,
) -> Resource:
    """A person says something in a session: its count begins anew, and what was still to go out by itself, follow-ups
    and timers included, is canceled; of this session only, and all in this transaction. The agent finds it in its
    inbox. With ``asks`` it is a command that only asks, and cancels nothing. ``draft`` holds what is known of the
    message beside that. Repeated with its ``key`` it changes nothing."""
    place = message_record.key_in(session, key)
    known = tx.get(place)
    if known is not None:
        return known
    status = SessionStatus.model_validate(session.status)
    mission = tx.get_by_uid(session.owner_uid)
    draft = draft or MessageSpec(direction=Direction.INBOUND, author="", text="", idempotency_key=key)
    thread = draft.thread_ref
    if thread is None and mission is not None and mission.kind == "Mission":
        thread = ObjectRef(name=threads.of(tx, mission).name)
    spec = draft.model_copy(
        update={
            "author": author.subject,
            "text": clean(text, TEXT),
            "session_ref": ObjectRef(name=session.name),
            "mission_ref": ObjectRef.model_validate(session.spec["missionRef"])
            if session.spec.get("missionRef")
            else None,
            "thread_ref": thread,
            "external_id": external_id,
            "sequence": status.sequence + 1,
        }
    )
    message = message_record.create(tx, place, spec, owner_uid=session.owner_uid, session=session, actor=author)
    event: Event = (
        deciding.PersonAsked(message.name, message.uid)
        if asks
        else deciding.PersonSaid(message.name, message.uid, command=bool(spec.command))
    )
    _apply(tx, session, event, stops)
    return message


def deliver(tx: Transaction, session: Resource, stops: Stops = other.NONE) -> datetime | None:
    """Let happen what is due, in order; when the next is, None when nothing waits. The wait is a timer in the store
    (see ``reconcilers.sessions``)."""
    status = SessionStatus.model_validate(session.status)
    waits = bool(status.queue or status.follow_ups)
    if not waits and status.state is SessionState.CLOSED:
        return None
    mission = tx.get_by_uid(session.owner_uid)
    over = mission is None or mission.state in TERMINAL_STATES
    if over or waits:
        event: Event = deciding.WorkEnded() if over else deciding.TimePassed()
        return _apply(tx, session, event, stops).decision.wake_at
    if _idle(tx, session, status):
        _close(tx, session, status, IDLE)
    return None


def _idle(tx: Transaction, session: Resource, status: SessionStatus) -> bool:
    """Whether nothing was said for so long that nobody goes on with it; the next word opens it again."""
    times = (session.created_at, status.last_message_at, status.last_human_message_at)
    if tx.now - max(t for t in times if t is not None) < IDLE_AFTER:
        return False
    open_runs = tx.objects("Run", namespace=session.namespace, owner_uid=session.owner_uid, states=ACTIVE_STATES)
    return all(sessions.key_of(run) != session.key for run in open_runs)


def _close(tx: Transaction, session: Resource, status: SessionStatus, why: str) -> None:
    conditions = set_condition(
        status.conditions, "Ready", False, SessionReason.CLOSED, why, now=tx.now, generation=session.generation
    )
    update = {"state": SessionState.CLOSED, "closed_at": tx.now, "conditions": conditions}
    tx.put_status(session, status.model_copy(update=update).to_wire())


def seen(tx: Transaction, run: Resource, uids: frozenset[str], *, upto: int = 0, stops: Stops = other.NONE) -> None:
    """The agent has these messages, and every one up to this number of the session."""
    session = sessions.find(tx, run)
    if session is None:
        return
    names = set()
    for name in SessionStatus.model_validate(session.status).inbound:
        message = tx.get(Key("Message", session.namespace, name))
        if message is None or message.uid in uids or 0 < int(message.spec.get("sequence", 0)) <= upto:
            names.add(name)
    if names:
        _apply(tx, session, deciding.Acknowledged(frozenset(names)), stops)


def unseen(snapshot: Snapshot, run: Resource, upto: int) -> bool:
    """Whether a message up to this number of the session of a run was not seen yet."""
    session = sessions.find(snapshot, run)
    names = session.status.get("inbound", ()) if session is not None else ()
    found = snapshot.get_many(Key("Message", run.namespace, str(name)) for name in names) if names else {}
    return any(0 < int(message.spec.get("sequence", 0)) <= upto for message in found.values())


def state_of(status: SessionStatus) -> State:
    """A session as decisions see it."""
    return State(
        count=Count(status.consecutive, len(status.queue), status.owed, status.cooldown_until),
        queue=status.queue,
        inbound=status.inbound,
        follow_ups=tuple(Pending(f.id, f.due_at, f.say) for f in status.follow_ups),
        open_commands=status.open_commands,
        latest=status.last_human_message,
    )


def _apply(
    tx: Transaction,
    session: Resource,
    event: Event,
    stops: Stops,
    drafts: Mapping[str, MessageSpec] | None = None,
    asked: FollowUp | None = None,
) -> _Applied:
    """Decide one event, and write what follows from it."""
    status = SessionStatus.model_validate(session.status)
    agent = tx.get(ObjectRef.model_validate(session.spec["agentRef"]).key("Agent", session.namespace))
    limits = thresholds.autonomy(tx, agent) if agent is not None else DEFAULT_AUTONOMY
    hold = _hold(tx, session, agent, stops)
    before = state_of(status)
    decision = deciding.decide(before, event, limits, hold, tx.now)
    texts = {f.id: f for f in (*status.follow_ups, *([asked] if asked is not None else []))}
    idle = isinstance(event, deciding.TimePassed | deciding.Acknowledged)
    if idle and decision.state == before and not decision.moves:
        session = _save(tx, session, status, event, limits, hold)  # it may be held by now, or no longer
    else:
        sequence = status.sequence + 1
        made, blocked, sent = _carry_out(tx, session, decision, texts, drafts or {}, sequence)
        person = isinstance(event, deciding.PersonSaid | deciding.PersonAsked)
        update = _fields(decision.state, texts) | {
            "sequence": sequence,
            "messages": status.messages + made + person,
            "blocked": status.blocked + blocked,
            "last_message_at": tx.now if sent else status.last_message_at,
            "last_human_message_at": tx.now if person else status.last_human_message_at,
        }
        session = _save(tx, session, status.model_copy(update=update), event, limits, hold)
    if isinstance(event, deciding.PersonSaid | deciding.WorkEnded):
        for effect in tx.effects(subject=session.key, states=[EffectState.PENDING]):
            tx.drop_effect(effect.key)
    if decision.wake_at is None:
        tx.clear_timer(session.key, WAKE)
    else:
        tx.set_timer(session.key, WAKE, decision.wake_at)
    if decision.told:
        _tell_run(tx, session)
    for follow_up in decision.fired:
        mission = tx.get_by_uid(session.owner_uid)
        if mission is None or agent is None:
            break
        link = f"message/{follow_up.message}"
        if follow_up.say:
            loop_facts.said(tx, mission, agent, _subject(agent.key), (), link)
        else:
            loop_facts.woke(tx, mission, agent, _subject(agent.key), link)
    return _Applied(session, decision)


def _carry_out(
    tx: Transaction,
    session: Resource,
    decision: Decision,
    texts: Mapping[str, FollowUp],
    drafts: Mapping[str, MessageSpec],
    sequence: int,
) -> tuple[int, int, bool]:
    """Make and end messages; how many were made, how many blocked, and whether one went out."""
    fired = {f.message for f in decision.fired}
    autonomous = decision.admission is not Admission.REPLY
    states: dict[str, deciding.Moved] = {}
    for move in decision.moves:  # a message that is made and goes out in one event is made as what it is then
        states[move.message] = move
    made = blocked = 0
    sent = False
    for name, move in states.items():
        key = Key("Message", session.namespace, name)
        if tx.get(key) is not None:
            ended = message_record.end(tx, key, move.state, move.reason, move.why, session=session, sequence=sequence)
            sent = sent or (ended is not None and _goes_out(ended) and move.state is MessageState.DELIVERED)
            continue
        draft = drafts.get(name) or _of_follow_up(tx, session, texts[name])
        spec = draft.model_copy(update={"autonomous": autonomous or name in fired, "sequence": sequence})
        message = message_record.create(
            tx, key, spec, owner_uid=session.owner_uid, session=session, state=move.state, reason=move.reason,
            why=move.why,
        )  # fmt: skip
        made += 1
        blocked += move.state is MessageState.BLOCKED
        sent = sent or (_goes_out(message) and move.state is MessageState.DELIVERED)
    for follow_up, reason, why in (
        *((f, "Due", "") for f in decision.fired),
        *((f, MessageReason.PERSON_SPOKE, "a person spoke before it was due") for f in decision.canceled),
    ):
        tx.event(
            EventType.FOLLOW_UP_ENDED,
            session,
            reason=reason,
            message=why,
            data={
                "related": [session.owner_uid],
                "followUp": follow_up.message,
                "session": session.name,
                "sequence": sequence,
            },
        )
    return made, blocked, sent


def _goes_out(message: Resource) -> bool:
    return str(message.spec["direction"]) == Direction.OUTBOUND


def _save(
    tx: Transaction,
    session: Resource,
    status: SessionStatus,
    event: Event,
    limits: AutonomyLimits,
    hold: HoldMode | None,
) -> Resource:
    closed = isinstance(event, deciding.WorkEnded)
    ready, reason, why = True, SessionReason.OPEN, ""
    waits = bool(status.queue or status.follow_ups)
    if closed:
        ready, reason, why = False, SessionReason.CLOSED, "what it was about is over"
    elif hold is not None and waits:
        ready, reason, why = False, SessionReason.HELD, "a Hold stops what its agent does by itself"
    elif status.consecutive + len(status.queue) >= limits.max_consecutive:
        ready, reason = False, SessionReason.HARD_CAP
        why = f"{limits.max_consecutive} messages in a row by itself; a person's message starts anew"
    elif status.queue:
        ready, reason, why = False, SessionReason.COOLDOWN, "the next message waits for its turn"
    paused = reason in (SessionReason.HARD_CAP, SessionReason.HELD)
    state = SessionState.CLOSED if closed else SessionState.PAUSED if paused else SessionState.OPEN
    status = status.model_copy(
        update={
            "state": state,
            "closed_at": tx.now if closed else None,
            "pending_effects": len(status.queue) + len(status.follow_ups),
            "conditions": set_condition(
                status.conditions, "Ready", ready, reason, why, now=tx.now, generation=session.generation
            ),
        }
    )
    return tx.put_status(session, status.to_wire())


def _fields(state: State, texts: Mapping[str, FollowUp]) -> dict[str, object]:
    return {
        "consecutive": state.count.consecutive,
        "owed": state.count.owed,
        "cooldown_until": state.count.cooldown_until,
        "queue": state.queue,
        "inbound": state.inbound,
        "follow_ups": tuple(texts[f.message] for f in state.follow_ups),
        "open_commands": state.open_commands,
        "last_human_message": state.latest,
    }


def _draft(tx: Transaction, record: RunRecord, session: Resource, text: str, key: str) -> MessageSpec:
    agent = tx.get_by_uid(record.spec.agent_uid)
    author = agent.key if agent is not None else record.spec.agent_ref.key("Agent", record.run.namespace)
    return MessageSpec(
        direction=Direction.OUTBOUND,
        author=_subject(author),
        text=text,
        session_ref=ObjectRef(name=session.name),
        mission_ref=record.spec.mission_ref,
        channel_ref=_channel(tx, tx.get_by_uid(record.spec.mission_uid)),
        idempotency_key=key,
    )


def _of_follow_up(tx: Transaction, session: Resource, follow_up: FollowUp) -> MessageSpec:
    """What a follow-up becomes when it is due: said to people in the thread, or told to the agent alone."""
    mission = tx.get_by_uid(session.owner_uid)
    say = follow_up.say
    return MessageSpec(
        direction=Direction.OUTBOUND if say else Direction.INBOUND,
        author=_subject(ObjectRef.model_validate(session.spec["agentRef"]).key("Agent", session.namespace)),
        text=follow_up.text,
        session_ref=ObjectRef(name=session.name),
        mission_ref=ObjectRef(name=mission.name) if mission is not None else None,
        thread_ref=ObjectRef(name=threads.of(tx, mission).name) if say and mission is not None else None,
        channel_ref=_channel(tx, mission) if say else None,
        follow_up=True,
        idempotency_key=follow_up.id,
    )


def _answered(tx: Transaction, status: SessionStatus, session: Resource, uid: str) -> MessageSpec | None:
    """What a message of this session says that it answers; None for anything else."""
    if not uid or (uid != status.last_human_message and uid not in status.open_commands):
        return None
    message = tx.get_by_uid(uid)
    spec = MessageSpec.model_validate(message.spec) if message is not None and message.kind == "Message" else None
    return spec if spec is not None and spec.session_ref == ObjectRef(name=session.name) else None


def _named(tx: Transaction, status: SessionStatus, uid: str) -> str:
    """The name of what is answered, where it still waits in the inbox: who answers it has it."""
    message = tx.get_by_uid(uid) if uid and status.inbound else None
    return message.name if message is not None and message.name in status.inbound else ""


def _thread(tx: Transaction, record: RunRecord, wanted: ThreadOf) -> ObjectRef | None:
    subject = tx.get_by_uid(record.spec.mission_uid)
    if subject is not None and wanted is ThreadOf.PROJECT:
        subject = project_of(tx, subject)
        if subject is None:
            raise Refused("the mission belongs to no project: say it in the thread of the mission", reason="NoThread")
    return ObjectRef(name=threads.of(tx, subject).name) if subject is not None else None


def project_of(tx: Transaction, mission: Resource) -> Resource | None:
    """The project of a mission, in its namespace."""
    ref = mission.spec.get("projectRef")
    return tx.get(Key("Project", mission.namespace, str(ref["name"]))) if ref else None


def _channel(tx: Transaction, mission: Resource | None) -> ObjectRef | None:
    """Where the project of a mission has its news sent."""
    project = project_of(tx, mission) if mission is not None else None
    ref = project.spec.get("channelRef") if project is not None else None
    return ObjectRef.model_validate(ref) if ref else None


def _subject(agent: Key) -> str:
    return f"agent:{agent.namespace}/{agent.name}"


def _hold(tx: Transaction, session: Resource, agent: Resource | None, stops: Stops) -> HoldMode | None:
    """The strictest Hold on what the agent does in the session."""
    holds = effective.taken_in(tx, stops)
    if not holds:
        return None
    found = strictest(holds, effective.objects(tx, agent, tx.get_by_uid(session.owner_uid)), tx.now)
    return found.mode if found is not None else None


def _tell_run(tx: Transaction, session: Resource) -> None:
    """Wake whoever waits at the inbox of the open run."""
    for run in tx.objects("Run", owner_uid=session.owner_uid, states=ACTIVE_STATES):
        if sessions.key_of(run) == session.key:
            status = RunStatus.model_validate(run.status)
            tx.put_status(run, status.model_copy(update={"messages": status.messages + 1}).to_wire())
            return


def _due(tx: Transaction, session: Resource, message: Resource) -> datetime | None:
    if message.state != MessageState.PENDING:
        return None
    count = state_of(SessionStatus.model_validate(session.status)).count
    return autonomy.next_due(replace(count, queued=max(1, count.queued)), tx.now)
