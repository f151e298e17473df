"""One Message record: made, and brought to its end, each with its event."""

from __future__ import annotations

from controllers.runs import sessions, threads
from schemas.base import Key
from schemas.conditions import set_condition
from schemas.event import EventType
from schemas.message import Direction, MessageReason, MessageSpec, MessageState, MessageStatus
from schemas.resource import Actor, Declared, Resource, digest
from store.contract import Transaction

_ENDED = {
    MessageState.DELIVERED: True,
    MessageState.BLOCKED: False,
    MessageState.CANCELED: False,
    MessageState.FAILED: False,
}


def key_in(place: Resource, key: str) -> Key:
    """Of the message that was said with this idempotency key in a session or a thread."""
    return Key("Message", place.namespace, f"{place.name}-{digest([place.uid, key])[7:19]}")


def create(
    tx: Transaction,
    key: Key,
    spec: MessageSpec,
    *,
    owner_uid: str,
    session: Resource | None,
    state: MessageState = MessageState.PENDING,
    reason: MessageReason = MessageReason.PENDING,
    why: str = "",
    actor: Actor | None = None,
) -> Resource:
    """A message, with its events. What a person says stands in the thread at once, what an agent says when it goes out;
    what was stopped is noted there without a number."""
    conditions = set_condition((), "Succeeded", _ENDED.get(state), reason, why, now=tx.now, generation=1)
    status = MessageStatus(state=state, conditions=conditions, observed_generation=1)
    if state is MessageState.DELIVERED:
        status = status.model_copy(update={"sent_at": tx.now, "delivered_at": tx.now, "attempts": 1})
    thread = _thread(tx, key, spec)
    inbound = spec.direction is Direction.INBOUND
    shown = thread is not None and (inbound or state is MessageState.DELIVERED) and not spec.copy_of
    if shown and thread is not None:
        status = status.model_copy(update={"number": threads.number(tx, thread, spec.author, spec.mentions)})
    message = tx.create(
        Declared(*key, spec.to_wire(), labels=_labels(spec, session, thread)),
        manager="controller/messages",
        owner_uid=owner_uid,
        status=status.to_wire(),
    )
    related = [*([session.uid] if session is not None else []), owner_uid]
    here = [thread.uid] if thread is not None and not spec.copy_of else []
    data = {"autonomous": spec.autonomous, **_in_session(session, spec.sequence)}
    tx.event(
        EventType.MESSAGE_POSTED,
        message,
        reason=spec.direction,
        message=spec.text[:200],
        data={**data, "mentions": list(spec.mentions), "related": related + (here if inbound else [])},
        actor=actor,
    )
    if state is not MessageState.PENDING:
        data = _in_session(session, spec.sequence)
        tx.event(
            EventType.MESSAGE_ENDED,
            message,
            reason=reason,
            message=why,
            data={**data, "related": related + ([] if inbound else here)},
        )
    return message


def end(
    tx: Transaction,
    key: Key,
    state: MessageState,
    reason: MessageReason,
    why: str,
    *,
    session: Resource | None = None,
    sequence: int = 0,
) -> Resource | None:
    """Bring a message that is Pending to its end; None when it is not."""
    message = tx.get(key)
    if message is None or message.state != MessageState.PENDING:
        return None
    old, spec = MessageStatus.model_validate(message.status), MessageSpec.model_validate(message.spec)
    conditions = set_condition(
        old.conditions, "Succeeded", _ENDED.get(state), reason, why, now=tx.now, generation=message.generation
    )
    update: dict[str, object] = {"state": state, "conditions": conditions}
    related = [message.owner_uid, *([session.uid] if session is not None else [])]
    if state is MessageState.DELIVERED:
        update |= {"sent_at": tx.now, "delivered_at": tx.now, "attempts": old.attempts + 1}
        thread = _thread(tx, key, spec) if spec.direction is Direction.OUTBOUND else None
        if thread is not None:
            update["number"] = threads.number(tx, thread, spec.author, spec.mentions)
            related.append(thread.uid)
    message = tx.put_status(message, old.model_copy(update=update).to_wire())
    data = {**_in_session(session, sequence), "related": related}
    tx.event(EventType.MESSAGE_ENDED, message, reason=reason, message=why, data=data)
    return message


def _thread(tx: Transaction, key: Key, spec: MessageSpec) -> Resource | None:
    return tx.get(spec.thread_ref.key("Thread", key.namespace)) if spec.thread_ref is not None else None


def _labels(spec: MessageSpec, session: Resource | None, thread: Resource | None) -> dict[str, str]:
    agent = str(session.spec["agentRef"]["name"]) if session is not None else None
    mission = spec.mission_ref.name if spec.mission_ref is not None else None
    project = str(thread.spec["subjectRef"]["name"]) if thread is not None and thread.spec["of"] == "Project" else None
    return sessions.labels(agent=agent, mission=mission, project=project)


def _in_session(session: Resource | None, sequence: int) -> dict[str, object]:
    return {"session": session.name, "sequence": sequence} if session is not None else {}
