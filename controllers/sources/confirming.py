"""Confirmations in the sync of a source: which plans they release, and what becomes of them."""

from __future__ import annotations

from schemas.conditions import find, set_condition
from schemas.confirmation import ConfirmationReason, ConfirmationStatus
from schemas.errors import Conflict
from schemas.event import EventType
from schemas.resource import Resource
from store.contract import Snapshot, Transaction


def open_confirmations(snapshot: Snapshot) -> dict[str, Resource]:
    """Confirmations that were not used yet, by the digest they release. One that proves nobody releases nothing."""
    found = {}
    for resource in snapshot.objects("Confirmation"):
        status = ConfirmationStatus.model_validate(resource.status)
        judged = find(status.conditions, "Succeeded")
        if judged is not None and judged.reason == ConfirmationReason.IDENTITY_UNPROVEN:
            continue
        if status.used_at is None and resource.deletion_at is None:
            found[str(resource.spec["planDigest"])] = resource
    return found


def use(tx: Transaction, confirmation: Resource) -> None:
    """Mark it used: one confirmation, one plan."""
    current = tx.get(confirmation.key)
    if current is None:
        return
    status = ConfirmationStatus.model_validate(current.status)
    if status.used_at is not None:
        raise Conflict(f"{current.key.short} was used meanwhile")
    conditions = set_condition(
        status.conditions, "Succeeded", True, ConfirmationReason.USED, "", now=tx.now, generation=current.generation
    )
    update = {"conditions": conditions, "used_at": tx.now, "observed_generation": current.generation}
    current = tx.put_status(current, status.model_copy(update=update).to_wire())
    tx.event(
        EventType.GUARD_CONFIRMED,
        current,
        reason="Confirmed",
        message=f"by {status.confirmed_by or current.manager}",
        data={"planDigest": current.spec["planDigest"]},
    )


def mark_unknown(tx: Transaction, confirmed: dict[str, Resource], pending: set[str]) -> None:
    """Tell those who confirmed a plan that is not the one that waits."""
    for digest, confirmation in confirmed.items():
        current = tx.get(confirmation.key)
        if current is None or digest in pending:
            continue
        status = ConfirmationStatus.model_validate(current.status)
        if status.used_at is not None:
            continue
        conditions = set_condition(
            status.conditions, "Succeeded", False, ConfirmationReason.DIGEST_UNKNOWN,
            "no plan with that digest waits", now=tx.now, generation=current.generation,
        )  # fmt: skip
        update = {"conditions": conditions, "observed_generation": current.generation}
        tx.put_status(current, status.model_copy(update=update).to_wire())
