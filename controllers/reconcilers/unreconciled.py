"""Kinds whose controllers come later: accepted and stored, and never silently green."""

from __future__ import annotations

from controllers.runtime.result import DONE, Result
from schemas.base import Key, StatusModel
from schemas.conditions import CommonReason, Conditions, set_condition
from schemas.event import EventType
from store.contract import Transaction


class _Status(StatusModel):
    conditions: Conditions = ()
    observed_generation: int = 0


def reconcile(tx: Transaction, key: Key) -> Result:
    """Say Ready=Unknown, reason NotReconciledYet."""
    resource = tx.get(key)
    if resource is None:
        return DONE
    if resource.deletion_at is not None:
        tx.event(EventType.DELETED, resource, reason="Finalized", message="nothing to undo")
        tx.remove(tx.put_finalizers(resource, ()) if resource.finalizers else resource)
        return DONE
    old = _Status.model_validate(resource.status).conditions
    conditions = set_condition(
        old,
        "Ready",
        None,
        CommonReason.NOT_RECONCILED_YET,
        f"accepted and stored; this version does not act on {key.kind} yet",
        now=tx.now,
        generation=resource.generation,
    )
    status = _Status(conditions=conditions, observed_generation=resource.generation).to_wire()
    tx.put_status(resource, {**resource.status, **status})
    return DONE
