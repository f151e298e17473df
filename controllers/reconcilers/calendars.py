"""Calendar: asks for a look every interval, after a change, and when a person asks. The look itself is an effect."""

from __future__ import annotations

from datetime import datetime

from controllers.reconcilers import writing
from controllers.runtime.result import DONE, Result
from schemas.base import Key
from schemas.calendar import CalendarReason, CalendarSpec, CalendarStatus
from schemas.conditions import Conditions, find, set_condition
from schemas.event import EventType
from schemas.resource import RECONCILE_REQUESTED_AT, Resource
from store.contract import EffectState, Transaction

SYNC = "SyncCalendar"
"""Effect: look into a calendar."""


def reconcile(tx: Transaction, key: Key) -> Result:
    """One pass over a Calendar."""
    calendar = tx.get(key)
    if calendar is None:
        return writing.gone(tx, key)
    spec, status = CalendarSpec.model_validate(calendar.spec), CalendarStatus.model_validate(calendar.status)
    if calendar.deletion_at is not None:
        tx.drop_effect(status.asked)
        tx.clear_timer(key, writing.WAKE)
        tx.event(EventType.DELETED, calendar, reason="Finalized", message="what was written into it stays there")
        tx.remove(tx.put_finalizers(calendar, ()) if calendar.finalizers else calendar)
        return DONE
    token = calendar.annotations.get(RECONCILE_REQUESTED_AT)
    changed = status.observed_generation != calendar.generation
    asked = token is not None and token != status.last_handled_reconcile
    update: dict[str, object] = {
        "observed_generation": calendar.generation,
        "last_handled_reconcile": token or status.last_handled_reconcile,
    }
    wake: datetime | None = None
    if spec.suspend:
        tx.drop_effect(status.asked)
        update |= {"asked": "", "next_sync_time": None}
        update["conditions"] = _ready(tx, calendar, status, False, CalendarReason.SUSPENDED, "spec.suspend")
    else:
        due = status.next_sync_time is None or status.next_sync_time <= tx.now
        if changed or asked or (due and not _under_way(tx, status.asked)):
            tx.drop_effect(status.asked)
            update["asked"] = _ask(tx, calendar)
            update["next_sync_time"] = tx.now + spec.interval
        wake = update.get("next_sync_time", status.next_sync_time)  # type: ignore[assignment]
        ready = find(status.conditions, "Ready")
        if ready is None or ready.reason == CalendarReason.SUSPENDED:
            message = "it is looked at for the first time"
            update["conditions"] = _ready(tx, calendar, status, None, CalendarReason.PROGRESSING, message)
    new = status.model_copy(update=update)
    calendar = writing.put_status(tx, calendar, new)
    writing.note_ready(tx, calendar, status.conditions, new.conditions)
    return writing.wake_at(tx, calendar, wake)


def _under_way(tx: Transaction, key: str) -> bool:
    effect = tx.effect(key) if key else None
    return effect is not None and effect.state in (EffectState.PENDING, EffectState.CLAIMED)


def _ask(tx: Transaction, calendar: Resource) -> str:
    """Put a look into the outbox; the key of it."""
    key = f"calendar/{calendar.uid}/{calendar.generation}/{int(tx.now.timestamp() * 1000)}"
    tx.enqueue(SYNC, key, calendar.key, {})
    return key


def _ready(
    tx: Transaction, calendar: Resource, status: CalendarStatus, value: bool | None, reason: CalendarReason, text: str
) -> Conditions:
    return set_condition(status.conditions, "Ready", value, reason, text, now=tx.now, generation=calendar.generation)
