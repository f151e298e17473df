"""What is said in a session, by its agent and by people, and when it goes out.

Nothing here knows how a message travels: one that goes out is Delivered in the store, where whatever carries it on
finds it. Each session stands for itself: its messages go out in the order in which they were said, one at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from controllers.runs import inbox, loop_facts, sessions, thresholds
from controllers.runs.once import Once
from controllers.runs.reports import begin_report
from controllers.runs.run_record import RunRecord
from controllers.runs.text import clean
from decisions import autonomy
from decisions.autonomy import Admission, Count
from schemas.base import Key, ObjectRef
from schemas.conditions import set_condition
from schemas.event import EventType
from schemas.hold import HoldMode
from schemas.message import Direction, MessageReason, MessageSpec, MessageState, MessageStatus
from schemas.mission import TERMINAL_STATES
from schemas.policy import DEFAULT_AUTONOMY, AutonomyLimits
from schemas.resource import Actor, Declared, Resource, digest
from schemas.run import ACTIVE_STATES, RunStatus
from schemas.session import SessionStatus
from store.contract import EffectState, Transaction

TEXT = 10_000
"""Characters of a message that are kept."""
MOST_INBOUND = 100
"""Messages that an agent has not seen; beyond them the oldest are given up."""
HELD_RETRY = timedelta(seconds=30)
"""How often a queue that a Hold stops is looked at."""
WAKE = "wake"
_ENDED = {
    MessageState.DELIVERED: True,
    MessageState.BLOCKED: False,
    MessageState.CANCELED: False,
    MessageState.FAILED: False,
}


@dataclass(frozen=True, slots=True)
class Said:
    """A message as it was taken."""

    message: Resource
    due_at: datetime | None = None


def agent_says(tx: Transaction, run_uid: str, text: str, to: tuple[str, ...], in_reply_to: str, *, once: Once) -> Said:
    """The agent of a run says something. An answer to a person goes out at once; anything else takes its turn, or is
    noted as Blocked. Repeated with its key it changes nothing. Raises Refused."""
    record, known = begin_report(tx, run_uid, once)
    session = sessions.of_run(tx, record.run)
    if known:
        message = tx.get(_key(session, once.key))
        if message is not None:
            return Said(message, _due(tx, session, message))
    else:
        record.save()
    session, message = _post(tx, record, session, text, to, in_reply_to, once.key)
    mission = tx.get_by_uid(record.spec.mission_uid)
    if mission is not None:
        author = MessageSpec.model_validate(message.spec).author
        agent = tx.get_by_uid(record.spec.agent_uid)
        loop_facts.said(tx, mission, agent, author, to, f"message/{message.name}")
    due = deliver(tx, session)
    message = tx.get(message.key) or message
    return Said(message, due if message.state == MessageState.PENDING else None)


def _post(
    tx: Transaction,
    record: RunRecord,
    session: Resource,
    text: str,
    to: tuple[str, ...],
    in_reply_to: str,
    key: str,
) -> tuple[Resource, Resource]:
    status = SessionStatus.model_validate(session.status)
    answers = bool(in_reply_to) and in_reply_to == status.last_human_message
    count, admission = autonomy.admit(_count(status), _limits(tx, session), answers_person=answers)
    held = inbox.held(tx, record.run, tx.now)
    state, reason = MessageState.PENDING, MessageReason.PENDING
    if held is not None and held.mode is HoldMode.STOP:
        state, reason, count = MessageState.BLOCKED, MessageReason.HELD, _count(status)
    elif admission is Admission.HARD_CAP:
        state, reason = MessageState.BLOCKED, MessageReason.HARD_CAP
    elif admission is Admission.REPLY:
        state, reason = MessageState.DELIVERED, MessageReason.DELIVERED
    agent = tx.get_by_uid(record.spec.agent_uid)
    author = agent.key if agent is not None else record.spec.agent_ref.key("Agent", record.run.namespace)
    spec = MessageSpec(
        direction=Direction.OUTBOUND,
        author=f"agent:{author.namespace}/{author.name}",
        text=clean(text, TEXT, record.redactor),
        session_ref=ObjectRef(name=session.name),
        mission_ref=record.spec.mission_ref,
        in_reply_to=clean(in_reply_to, 64),
        mentions=tuple(sorted(set(to))),
        autonomous=admission is not Admission.REPLY,
        idempotency_key=key,
    )
    message = _create(tx, session, spec, record.spec.mission_uid, state, reason)
    update = _fields(count) | {"messages": status.messages + 1}
    if state is MessageState.PENDING:
        update["queue"] = (*status.queue, message.name)
    elif state is MessageState.BLOCKED:
        update["blocked"] = status.blocked + 1
    else:
        update["last_message_at"] = tx.now
    session = _save(tx, session, status.model_copy(update=update))
    return session, message


def person_says(
    tx: Transaction, session: Resource, author: Actor, text: str, *, key: str, external_id: str = ""
) -> Resource:
    """A person says something in a session: its count begins anew, and what was still to go out by itself, timers
    included, is canceled; of this session only, and all in this transaction. The agent finds it in its inbox. Repeated
    with its ``key`` it changes nothing."""
    known = tx.get(_key(session, key))
    if known is not None:
        return known
    status = SessionStatus.model_validate(session.status)
    spec = MessageSpec(
        direction=Direction.INBOUND,
        author=author.subject,
        text=clean(text, TEXT),
        session_ref=ObjectRef(name=session.name),
        mission_ref=ObjectRef.model_validate(session.spec["missionRef"]) if session.spec.get("missionRef") else None,
        external_id=external_id,
        idempotency_key=key,
    )
    cancel_pending(tx, session, MessageReason.PERSON_SPOKE, "a person spoke before it went out")
    message = _create(tx, session, spec, session.owner_uid, MessageState.PENDING, MessageReason.PENDING, author)
    inbound = (*status.inbound, message.name)
    for missed in inbound[:-MOST_INBOUND]:
        _end(tx, Key("Message", session.namespace, missed), MessageState.FAILED, MessageReason.DELIVERY_FAILED,
             f"the agent did not look at its inbox while {MOST_INBOUND} others came")  # fmt: skip
    _save(
        tx,
        session,
        status.model_copy(
            update=_fields(autonomy.person_spoke(_count(status)))
            | {
                "queue": (),
                "inbound": inbound[-MOST_INBOUND:],
                "messages": status.messages + 1,
                "last_human_message_at": tx.now,
                "last_human_message": message.uid,
            }
        ),
    )
    _tell_run(tx, session)
    return message


def cancel_pending(tx: Transaction, session: Resource, reason: MessageReason, why: str) -> None:
    """Cancel everything of a session that has not happened: messages in its queue, effects, timers. Whoever calls
    empties the queue."""
    status = SessionStatus.model_validate(session.status)
    for name in status.queue:
        _end(tx, Key("Message", session.namespace, name), MessageState.CANCELED, reason, why)
    for effect in tx.effects(subject=session.key, states=[EffectState.PENDING]):
        tx.drop_effect(effect.key)
    tx.clear_timer(session.key, WAKE)


def deliver(tx: Transaction, session: Resource) -> datetime | None:
    """Let go out what is due, in order; when the next one is, None when nothing waits. The wait is a timer in the store
    (see ``reconcilers.sessions``)."""
    status = SessionStatus.model_validate(session.status)
    if not status.queue:
        return None
    mission = tx.get_by_uid(session.owner_uid)
    if mission is None or mission.state in TERMINAL_STATES:
        cancel_pending(tx, session, MessageReason.MISSION_ENDED, "what it was about is over")
        _save(tx, session, status.model_copy(update={"queue": ()}))
        return None
    if _held(tx, session):
        return tx.now + HELD_RETRY
    limits = _limits(tx, session)
    count, queue = _count(status), list(status.queue)
    due = autonomy.next_due(count, tx.now)
    while queue and due is not None and due <= tx.now:
        _end(tx, Key("Message", session.namespace, queue.pop(0)), MessageState.DELIVERED, MessageReason.DELIVERED, "")
        count = autonomy.sent(count, limits, tx.now)
        due = autonomy.next_due(count, tx.now)
        status = status.model_copy(update={"last_message_at": tx.now})
    status = status.model_copy(update=_fields(count) | {"queue": tuple(queue)})
    if status.to_wire() != session.status:
        _save(tx, session, status)
    if due is not None:
        tx.set_timer(session.key, WAKE, due)
    return due


def seen(tx: Transaction, run: Resource, uids: frozenset[str]) -> None:
    """The agent has these messages."""
    session = sessions.find(tx, run)
    if session is None:
        return
    status = SessionStatus.model_validate(session.status)
    left = []
    for name in status.inbound:
        key = Key("Message", session.namespace, name)
        message = tx.get(key)
        if message is not None and message.uid not in uids:
            left.append(name)
        elif message is not None:
            _end(tx, key, MessageState.DELIVERED, MessageReason.DELIVERED, "")
    if len(left) < len(status.inbound):
        _save(tx, session, status.model_copy(update={"inbound": tuple(left)}))


def _key(session: Resource, key: str) -> Key:
    return Key("Message", session.namespace, f"{session.name}-{digest([session.uid, key])[7:19]}")


def _create(
    tx: Transaction,
    session: Resource,
    spec: MessageSpec,
    owner_uid: str,
    state: MessageState,
    reason: MessageReason,
    actor: Actor | None = None,
) -> Resource:
    conditions = set_condition((), "Succeeded", _ENDED.get(state), reason, "", now=tx.now, generation=1)
    status = MessageStatus(state=state, conditions=conditions, observed_generation=1)
    if state is MessageState.DELIVERED:
        status = status.model_copy(update={"sent_at": tx.now, "delivered_at": tx.now, "attempts": 1})
    key = _key(session, spec.idempotency_key)
    message = tx.create(
        Declared("Message", key.namespace, key.name, spec.to_wire()),
        manager="controller/messages",
        owner_uid=owner_uid,
        status=status.to_wire(),
    )
    tx.event(
        EventType.MESSAGE_POSTED,
        message,
        reason=spec.direction,
        message=spec.text[:200],
        data={"related": [session.uid, owner_uid], "session": session.name, "autonomous": spec.autonomous},
        actor=actor,
    )
    if state is not MessageState.PENDING:
        tx.event(
            EventType.MESSAGE_ENDED, message, reason=reason, message="", data={"related": [session.uid, owner_uid]}
        )
    return message


def _end(tx: Transaction, key: Key, state: MessageState, reason: MessageReason, why: str) -> None:
    message = tx.get(key)
    if message is None or message.state != MessageState.PENDING:
        return
    old = MessageStatus.model_validate(message.status)
    conditions = set_condition(
        old.conditions, "Succeeded", _ENDED.get(state), reason, why, now=tx.now, generation=message.generation
    )
    update: dict[str, object] = {"state": state, "conditions": conditions}
    if state is MessageState.DELIVERED:
        update |= {"sent_at": tx.now, "delivered_at": tx.now, "attempts": old.attempts + 1}
    message = tx.put_status(message, old.model_copy(update=update).to_wire())
    tx.event(EventType.MESSAGE_ENDED, message, reason=reason, message=why, data={"related": [message.owner_uid]})


def _count(status: SessionStatus) -> Count:
    return Count(status.consecutive, len(status.queue), status.owed, status.cooldown_until)


def _fields(count: Count) -> dict[str, object]:
    return {"consecutive": count.consecutive, "owed": count.owed, "cooldown_until": count.cooldown_until}


def _save(tx: Transaction, session: Resource, status: SessionStatus) -> Resource:
    return tx.put_status(session, status.model_copy(update={"pending_effects": len(status.queue)}).to_wire())


def _limits(tx: Transaction, session: Resource) -> AutonomyLimits:
    agent = tx.get(ObjectRef.model_validate(session.spec["agentRef"]).key("Agent", session.namespace))
    return thresholds.autonomy(tx, agent) if agent is not None else DEFAULT_AUTONOMY


def _open_run(tx: Transaction, session: Resource) -> Resource | None:
    for run in tx.objects("Run", owner_uid=session.owner_uid, states=ACTIVE_STATES):
        if sessions.key_of(run) == session.key:
            return run
    return None


def _held(tx: Transaction, session: Resource) -> bool:
    run = _open_run(tx, session)
    held = inbox.held(tx, run, tx.now) if run is not None else None
    return held is not None and held.mode is HoldMode.STOP


def _tell_run(tx: Transaction, session: Resource) -> None:
    """Wake whoever waits at the inbox of the open run."""
    run = _open_run(tx, session)
    if run is not None:
        status = RunStatus.model_validate(run.status)
        tx.put_status(run, status.model_copy(update={"messages": status.messages + 1}).to_wire())


def _due(tx: Transaction, session: Resource, message: Resource) -> datetime | None:
    if message.state != MessageState.PENDING:
        return None
    return autonomy.next_due(_count(SessionStatus.model_validate(session.status)), tx.now)
