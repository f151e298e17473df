"""Confirmations of plans."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.confirmation import ConfirmationStatus
    from store.contract import Transaction


def new_confirmation(tx: Transaction) -> ConfirmationStatus:
    """What a Confirmation says of itself before the engine saw it."""
    from schemas.conditions import set_condition
    from schemas.confirmation import ConfirmationReason, ConfirmationStatus

    conditions = set_condition((), "Succeeded", None, ConfirmationReason.PENDING, "", now=tx.now, generation=1)
    return ConfirmationStatus(conditions=conditions, confirmed_by=tx.actor.subject, transport=tx.actor.transport)
