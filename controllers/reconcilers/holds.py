"""Hold: in force or over, what it matches, which runs it stops; one placed by hand goes away when its time is over."""

from __future__ import annotations

from controllers.holds import effective
from controllers.reconcilers import writing
from controllers.runs import inbox, records
from controllers.runtime.result import DONE, RequeueAfter, Result
from decisions.holds import HoldFacts, bites, held_by
from schemas.base import Key
from schemas.conditions import find, set_condition
from schemas.event import EventType
from schemas.hold import HOLDABLE, HoldMode, HoldReason, HoldScope, HoldSpec, HoldStatus
from schemas.mission import MissionReason
from schemas.resource import Resource
from schemas.run import ACTIVE_STATES
from store.contract import Transaction

BATCH = 200
"""Runs that are told to stop in one transaction: whoever asks the gate meanwhile waits for it."""


def reconcile(tx: Transaction, key: Key) -> Result:
    """One pass over a Hold."""
    hold = tx.get(key)
    if hold is None:
        return writing.gone(tx, key)  # released by hand
    spec, status = HoldSpec.model_validate(hold.spec), HoldStatus.model_validate(hold.status)
    found = effective.facts_of(hold)
    ready = find(status.conditions, "Ready")
    over = spec.until is not None and tx.now >= spec.until
    if hold.deletion_at is not None or (over and not hold.unit):
        return _end(tx, hold, "Expired" if over and hold.deletion_at is None else "Released")
    more = not over and spec.mode is HoldMode.STOP and _stop_runs(tx, found)
    reason = HoldReason.EXPIRED if over else HoldReason.IN_FORCE
    if spec.released is not None and not over:
        reason = HoldReason.PARTLY_RELEASED
    conditions = set_condition(
        status.conditions, "Ready", not over, reason, spec.reason, now=tx.now, generation=hold.generation
    )
    new = status.model_copy(
        update={
            "conditions": conditions,
            "observed_generation": hold.generation,
            "placed_by": found.placed_by,
            "matched": _count(tx, found),
        }
    )
    hold = writing.put_status(tx, hold, new)
    if ready is None:
        message = f"{spec.mode} by {found.placed_by}: {spec.reason}"
        data = {"matched": new.matched, "estop": spec.is_estop, "quarantine": spec.quarantine}
        tx.event(EventType.HOLD_PLACED, hold, reason=spec.mode, message=message, data=data)
    elif over and ready.reason != HoldReason.EXPIRED:
        tx.event(EventType.HOLD_RELEASED, hold, reason="Expired", message="its time is over")
    result = writing.wake_at(tx, hold, None if over else spec.until)
    return RequeueAfter(0.0) if more else result


def _end(tx: Transaction, hold: Resource, reason: str) -> Result:
    message = "its time is over" if reason == "Expired" else "released"
    tx.event(EventType.HOLD_RELEASED, hold, reason=reason, message=message)
    tx.clear_timer(hold.key, writing.WAKE)
    tx.remove(tx.put_finalizers(hold, ()) if hold.finalizers else hold)
    return DONE


def _stop_runs(tx: Transaction, hold: HoldFacts) -> bool:
    """Have what runs under the Hold stopped, some hundred in a transaction; whether there are more. The passes of the
    missions, which would do the same, may be many. A quarantine kills the keys of its runs, too."""
    why, count = held_by(hold).hint, 0
    for run in tx.objects("Run", states=ACTIVE_STATES):
        if not bites(hold, inbox.held_with(tx, run)):
            continue
        if hold.spec.quarantine:
            run = records.revoke_token(tx, run, why)
        if run.status.get("cancelRequestedAt") is not None:
            continue
        if count == BATCH:
            return True
        count += 1
        records.request_cancel(tx, run, MissionReason.STOPPED)
        mission = tx.get_by_uid(run.owner_uid)
        subject, data = (mission or run), {"run": run.name, "related": [run.uid]}
        tx.event(EventType.CANCEL_REQUESTED, subject, reason=MissionReason.STOPPED, message=why, data=data)
    return False


def _count(tx: Transaction, hold: HoldFacts) -> int:
    if hold.spec.scope is not None and hold.spec.released is None:  # not one by one: there may be very many
        namespace = hold.key.namespace if hold.spec.scope is HoldScope.TENANT else None
        return sum(tx.count(kind, namespace=namespace) for kind in HOLDABLE[:2])
    kinds = hold.spec.selector.kinds if hold.spec.selector is not None else HOLDABLE[:2]
    return sum(bites(hold, ((r.key, r.labels),)) for kind in kinds for r in tx.objects(kind) if r.deletion_at is None)
