"""Waiver: in force or over, and whether it can have an effect at all."""

from __future__ import annotations

from datetime import datetime, timedelta

from controllers.reconcilers import writing
from controllers.runtime.result import DONE, Result
from decisions.policy.compiled import WaiverDocument, compile_waiver
from schemas.base import Key
from schemas.conditions import set_condition
from schemas.event import EventType
from schemas.quantities import format_time
from schemas.resource import RECONCILE_REQUESTED_AT, Resource
from schemas.waiver import WaiverReason, WaiverSpec, WaiverStatus
from store.contract import Transaction

WARN_BEFORE = timedelta(hours=24)


def reconcile(tx: Transaction, key: Key) -> Result:
    """One pass over a Waiver."""
    waiver = tx.get(key)
    if waiver is None:
        return writing.gone(tx, key)
    if waiver.deletion_at is not None:
        tx.event(EventType.DELETED, waiver, reason="Finalized", message="nothing to undo")
        tx.clear_timer(key, writing.WAKE)
        tx.remove(tx.put_finalizers(waiver, ()) if waiver.finalizers else waiver)
        return DONE
    spec, status = WaiverSpec.model_validate(waiver.spec), WaiverStatus.model_validate(waiver.status)
    over = tx.now >= spec.expires
    reason, message = _judged(tx, waiver, spec, over)
    conditions = set_condition(
        status.conditions,
        "Ready",
        reason is WaiverReason.IN_FORCE,
        reason,
        message,
        now=tx.now,
        generation=waiver.generation,
    )
    token = waiver.annotations.get(RECONCILE_REQUESTED_AT, "")
    new = status.model_copy(
        update={
            "conditions": conditions,
            "observed_generation": waiver.generation,
            "last_handled_reconcile": token or status.last_handled_reconcile,
        }
    )
    warn_at = warning_time(waiver.created_at, spec.expires)
    warns = reason is WaiverReason.IN_FORCE and warn_at <= tx.now and status.warned_of != spec.expires
    if warns:
        new = new.model_copy(update={"warned_of": spec.expires})
    waiver = writing.put_status(tx, waiver, new)
    writing.note_ready(tx, waiver, status.conditions, conditions)
    if warns:
        tx.event(
            EventType.WAIVER_ENDING, waiver, reason="Expires", message=f"ends soon; {spec.owner}: {spec.reason}",
            data={"expires": format_time(spec.expires), "owner": spec.owner},
        )  # fmt: skip
    if over:
        return writing.wake_at(tx, waiver, None)
    return writing.wake_at(tx, waiver, warn_at if tx.now < warn_at else spec.expires)


def warning_time(created_at: datetime, expires: datetime) -> datetime:
    """When its end is announced: a day before, and for a short one at half of its life."""
    return expires - min(WARN_BEFORE, (expires - created_at) / 2)


def document(waiver: Resource) -> WaiverDocument:
    """A stored Waiver as the compiler takes it."""
    place = waiver.provenance.place if waiver.provenance is not None else ""
    return WaiverDocument(waiver.key, WaiverSpec.model_validate(waiver.spec), place)


def _judged(tx: Transaction, waiver: Resource, spec: WaiverSpec, over: bool) -> tuple[WaiverReason, str]:
    if over:
        return WaiverReason.EXPIRED, "its time is over; remove it, or declare a later expires"
    condition = compile_waiver(document(waiver)).rule.condition
    if condition is not None and condition.problem:
        return WaiverReason.EXPRESSION_INVALID, f"spec.match.when: {condition.problem}"
    if spec.policy_ref is not None:
        target = spec.policy_ref.key("Policy", waiver.namespace)
        found = tx.get(target)
        if found is None or found.deletion_at is not None:
            return WaiverReason.REFERENCE_NOT_FOUND, f"there is no {target.short}"
    return WaiverReason.IN_FORCE, f"{spec.owner}: {spec.reason}"
