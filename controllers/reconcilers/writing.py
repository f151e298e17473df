"""What every reconciler does at its end: write the status if it changed, append the events, set the next wake."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from controllers.runtime.result import DONE, RequeueAt, Result
from decisions.mission_facts import Note
from schemas.base import Key, StatusModel
from schemas.conditions import Conditions, find
from schemas.event import EventType
from schemas.resource import Resource
from store.contract import Transaction

WAKE = "wake"
"""Purpose of the one timer that a reconciler keeps per key."""


def put_status(tx: Transaction, resource: Resource, status: StatusModel) -> Resource:
    """Write the status when it differs; the stored object comes back."""
    return tx.put_status(resource, status.to_wire())


def append(tx: Transaction, resource: Resource, notes: Iterable[Note]) -> None:
    """Append the notes of a decision to the log."""
    for note in notes:
        tx.event(
            note.type, resource, reason=note.reason, message=note.message, data=note.data or None, actor=note.actor
        )


def note_ready(tx: Transaction, resource: Resource, old: Conditions, new: Conditions) -> None:
    """Append an event for each condition whose status or reason changed; those that appear for the first time as
    Unknown are not news."""
    for condition in new:
        before = find(old, condition.type)
        if before is not None and (before.status, before.reason) == (condition.status, condition.reason):
            continue
        if before is None and condition.status == "Unknown":
            continue
        tx.event(
            EventType.CONDITION_CHANGED,
            resource,
            reason=condition.reason,
            message=f"{condition.type}={condition.status}" + (f": {condition.message}" if condition.message else ""),
            data={"condition": condition.type, "status": condition.status.value},
        )


def gone(tx: Transaction, key: Key) -> Result:
    """The object is not there: neither may its timer be, which would be due again and again for nobody."""
    tx.clear_timer(key, WAKE)
    return DONE


def wake_at(tx: Transaction, resource: Resource, when: datetime | None) -> Result:
    """Keep the next wake in the store and tell the queue; None clears it."""
    if when is None:
        tx.clear_timer(resource.key, WAKE)
        return DONE
    tx.set_timer(resource.key, WAKE, when)
    return RequeueAt(when)


def wake_in(tx: Transaction, resource: Resource, seconds: float | None) -> Result:
    """Like ``wake_at``, counted from now."""
    return wake_at(tx, resource, None if seconds is None else tx.now + timedelta(seconds=seconds))
