"""Hold: in force or over, what it matches; one placed by hand goes away when its time is over."""

from __future__ import annotations

from controllers.reconcilers import writing
from controllers.runtime.result import DONE, Result
from decisions.holds import HoldFacts, matches
from schemas.base import Key
from schemas.conditions import find, set_condition
from schemas.event import EventType
from schemas.hold import HOLDABLE, HoldReason, HoldSpec, HoldStatus
from schemas.resource import Resource
from store.contract import Transaction


def reconcile(tx: Transaction, key: Key) -> Result:
    """One pass over a Hold."""
    hold = tx.get(key)
    if hold is None:
        return writing.gone(tx, key)  # released by hand
    spec, status = HoldSpec.model_validate(hold.spec), HoldStatus.model_validate(hold.status)
    placed_by = status.placed_by or hold.manager
    found = HoldFacts(hold.key, spec, placed_by, hold.created_at, hold.deletion_at is not None)
    first = find(status.conditions, "Ready") is None
    over = spec.until is not None and tx.now >= spec.until
    if hold.deletion_at is not None or (over and not hold.unit):
        return _end(tx, hold, "Expired" if over and hold.deletion_at is None else "Released")
    ready = find(status.conditions, "Ready")
    reason = HoldReason.EXPIRED if over else HoldReason.IN_FORCE
    conditions = set_condition(
        status.conditions, "Ready", not over, reason, spec.reason, now=tx.now, generation=hold.generation
    )
    new = status.model_copy(
        update={
            "conditions": conditions,
            "observed_generation": hold.generation,
            "placed_by": placed_by,
            "matched": _count(tx, found),
        }
    )
    hold = writing.put_status(tx, hold, new)
    if first:
        message = f"{spec.mode} by {placed_by}: {spec.reason}"
        tx.event(EventType.HOLD_PLACED, hold, reason=spec.mode, message=message, data={"matched": new.matched})
    elif over and ready is not None and ready.reason != HoldReason.EXPIRED:
        tx.event(EventType.HOLD_RELEASED, hold, reason="Expired", message="its time is over")
    return writing.wake_at(tx, hold, None if over else spec.until)


def _end(tx: Transaction, hold: Resource, reason: str) -> Result:
    message = "its time is over" if reason == "Expired" else "released"
    tx.event(EventType.HOLD_RELEASED, hold, reason=reason, message=message)
    tx.clear_timer(hold.key, writing.WAKE)
    tx.remove(tx.put_finalizers(hold, ()) if hold.finalizers else hold)
    return DONE


def _count(tx: Transaction, hold: HoldFacts) -> int:
    kinds = hold.spec.selector.kinds if hold.spec.selector is not None else HOLDABLE[:2]
    return sum(matches(hold, r.key, r.labels) for kind in kinds for r in tx.objects(kind) if r.deletion_at is None)
