"""Says on a Source how writing and reporting go. A condition is written when it changes, and at no other time."""

from __future__ import annotations

import logging

from controllers.status.redaction import redact
from schemas.base import Key
from schemas.conditions import find, set_condition
from schemas.event import EventType
from schemas.resource import Actor, ActorKind
from schemas.source import SourceReason, SourceStatus
from store.contract import Store, Transaction

log = logging.getLogger(__name__)

ACTOR = Actor(ActorKind.SYSTEM, "controller:status", "Engine")
_REASONS = {"PathRefused": SourceReason.NOT_WRITABLE}
_MESSAGE = 500


def reason_of(error: Exception) -> SourceReason:
    """The reason that an error of git stands for."""
    text = str(getattr(error, "reason", ""))
    if text in _REASONS:
        return _REASONS[text]
    try:
        return SourceReason(text)
    except ValueError:
        return SourceReason.NOT_WRITABLE


def put(tx: Transaction, key: Key, type_: str, reason: SourceReason, message: str, *, good: bool | None) -> bool:
    """Set a condition of a Source in a transaction; whether anything changed. ``good`` None means on its way."""
    source = tx.get(key)
    if source is None:
        return False
    status = SourceStatus.model_validate(source.status)
    text = redact(message)[:_MESSAGE]
    before = find(status.conditions, type_)
    if not find(status.conditions, "Ready"):
        return False  # the first look at the source comes first: its status begins with Ready
    after = set_condition(status.conditions, type_, good, reason, text, now=tx.now, generation=source.generation)
    if after == status.conditions:
        return False
    source = tx.put_status(source, status.model_copy(update={"conditions": after}).to_wire())
    now = find(after, type_)
    if before is None or now is None or before.status != now.status:
        tx.event(EventType.CONDITION_CHANGED, source, reason=reason, message=f"{type_}: {text}")
    return True


def set_on(store: Store, key: Key, type_: str, reason: SourceReason, message: str, *, good: bool | None) -> None:
    """The same in a transaction of its own, if there is anything to say."""
    with store.snapshot() as snapshot:
        source = snapshot.get(key)
    if source is None:
        return
    known = find(SourceStatus.model_validate(source.status).conditions, type_)
    if (
        known is not None
        and (known.reason, known.message) == (str(reason), redact(message)[:_MESSAGE])
        and known.observed_generation == source.generation
    ):
        return
    with store.transaction(ACTOR) as tx:
        put(tx, key, type_, reason, message, good=good)
