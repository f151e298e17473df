"""What a Source says of the last look at it: status and conditions, and the events of a failure and of its end."""

from __future__ import annotations

from controllers.sources import confirming
from schemas.base import Key
from schemas.conditions import find, set_condition
from schemas.event import EventType
from schemas.resource import Resource
from schemas.source import SourceReason, SourceStatus
from store.contract import Transaction


def write(
    tx: Transaction, key: Key, reason: SourceReason, message: str, *, ready: bool | None, token: str | None,
    fields: dict[str, object], unknown: tuple[dict[str, Resource], set[str]] | None = None, rewritten: str = "",
) -> None:  # fmt: skip
    """Write the Source's status; failures and recoveries are events, once each."""
    source = tx.get(key)
    if source is None:
        return
    old = SourceStatus.model_validate(source.status)
    before = find(old.conditions, "Ready")
    conditions = set_condition(
        old.conditions, "Ready", ready, reason, message, now=tx.now, generation=source.generation
    )
    if old.units == fields.get("units", old.units) and old.revision == fields.get("revision"):
        fields = (
            {k: v for k, v in fields.items() if k != "last_sync_time"}
            if before == find(conditions, "Ready")
            and old.last_handled_reconcile == (token or old.last_handled_reconcile)
            else fields
        )
    update = {
        **fields,
        "conditions": conditions,
        "observed_generation": source.generation,
        "last_handled_reconcile": token or old.last_handled_reconcile,
    }
    source = tx.put_status(source, old.model_copy(update=update).to_wire())
    if rewritten:
        tx.event(EventType.HISTORY_REWRITTEN, source, reason="ForcePush", message=rewritten,
                 data={"old": old.revision, "new": fields.get("revision")})  # fmt: skip
    news = before is None or (before.reason, before.message) != (reason, message)
    if ready is False and news and reason is not SourceReason.INVALID_SPEC:
        tx.event(EventType.SYNC_FAILED, source, reason=reason, message=message)
    elif ready and before is not None and before.status == "False":
        tx.event(EventType.SYNCED, source, reason="Recovered", message=f"was {before.reason}")
    if unknown is not None:
        confirming.mark_unknown(tx, *unknown)
