"""Ends overrides when their time is over. The declared value is stored with the object, so no source is needed."""

from __future__ import annotations

from controllers.runtime.result import DONE, RequeueAt, Result
from controllers.sources import ownership
from decisions.ownership import heal
from schemas.base import Key
from schemas.event import EventType
from schemas.ownership import path_text
from schemas.resource import Declared
from store.contract import Transaction

_AT_ONCE = 10_000


def reconcile(tx: Transaction, key: Key) -> Result:
    """Put back every field whose override is over; each object with its event, all in this transaction."""
    for timer in tx.timers(due_before=tx.now, limit=_AT_ONCE):
        if timer.key == ownership.KEY:
            _heal(tx, timer.purpose)
    left = next((t.due_at for t in tx.timers(limit=_AT_ONCE) if t.key == ownership.KEY), None)
    return DONE if left is None else RequeueAt(left)


def _heal(tx: Transaction, uid: str) -> None:
    resource = tx.get_by_uid(uid)
    if resource is None:
        tx.clear_timer(ownership.KEY, uid)
        return
    before = resource.ownership
    healed = heal(resource, tx.now, ownership.valid)
    declared = Declared(
        *resource.key, healed.spec, resource.labels, resource.annotations, resource.provenance, healed.ownership
    )
    changed = tx.put_spec(resource, declared)
    for claim in healed.ended:
        text = f"{path_text(claim.path)} is back to what is declared; {claim.manager} had it: {claim.reason}"
        tx.event(EventType.OVERRIDE_ENDED, changed, reason="Expired", message=text,
                 data={"field": path_text(claim.path), "manager": claim.manager})  # fmt: skip
    if before.fight_since is not None and healed.ownership.fight_since is None:
        tx.event(EventType.FIELD_FIGHT_ENDED, changed, reason="Quiet", message="nobody changed it for 10 minutes")
    ownership.arrange(tx, before, changed)
