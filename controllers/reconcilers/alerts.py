"""Alerts: raised once for one thing, counted up when it happens again, cleared when it is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.alert import AlertReason, AlertSpec, AlertState, AlertStatus, AlertType, Severity
from schemas.base import Key
from schemas.conditions import set_condition
from schemas.errors import Refused
from schemas.event import EventType
from schemas.resource import Declared, Resource, digest
from store.contract import Transaction


def alert_name(type_: AlertType, subject_uid: str, detail: str = "") -> str:
    """Deterministic: the same thing again has the same name."""
    return f"{type_.value.lower()}-{_fingerprint(type_, subject_uid, detail)[7:23]}"


def _fingerprint(type_: AlertType, subject_uid: str, detail: str) -> str:
    return digest([type_.value, subject_uid, detail])


def raise_alert(
    tx: Transaction,
    type_: AlertType,
    subject: Resource,
    *,
    severity: Severity,
    title: str,
    message: str,
    details: Mapping[str, Any],
    detail: str = "",
    related: Sequence[str] = (),
) -> Resource:
    """The alert about ``subject`` (and ``detail``, where one subject can have several): made, or opened again and
    counted up. Its event names the subject and what else is ``related``."""
    fingerprint = _fingerprint(type_, subject.uid, detail)
    key = Key("Alert", subject.namespace, alert_name(type_, subject.uid, detail))
    known = tx.get(key)
    # The title stands in a spec that does not change; what is said this time stands in the event.
    conditions = set_condition((), "Succeeded", None, AlertReason.OPEN, message, now=tx.now, generation=1)
    if known is None:
        spec = AlertSpec(
            type=type_,
            severity=severity,
            subject=str(subject.key),
            subject_uid=subject.uid,
            title=title,
            message=message,
            details=dict(details),
            fingerprint=fingerprint,
        )
        status = AlertStatus(conditions=conditions, observed_generation=1, first_seen=tx.now, last_seen=tx.now)
        alert = tx.create(
            Declared("Alert", key.namespace, key.name, spec.to_wire()),
            manager="controller/alerts",
            owner_uid=subject.uid,
            status=status.to_wire(),
        )
    else:
        old = AlertStatus.model_validate(known.status)
        conditions = set_condition(
            old.conditions, "Succeeded", None, AlertReason.OPEN, message, now=tx.now, generation=known.generation
        )
        again: dict[str, object] = {"conditions": conditions, "count": old.count + 1, "last_seen": tx.now}
        if old.state is AlertState.RESOLVED:  # it begins anew, and nobody looks after it yet
            again |= {"state": AlertState.OPEN, "resolved_by": "", "resolved_at": None}
            again |= {"acknowledged_by": "", "acknowledged_at": None}
        status = old.model_copy(update=again)
        alert = tx.put_status(known, status.to_wire())
    tx.event(
        EventType.ALERT_RAISED,
        alert,
        reason=type_,
        message=title,
        data={"related": [subject.uid, *related], "severity": severity.value, **details},
    )
    return alert


def acknowledge(tx: Transaction, alert: Resource, why: str) -> Resource:
    """Somebody (the actor of the transaction) looks after it. Raises Refused (AlreadyResolved, AlreadyAcknowledged)."""
    old = AlertStatus.model_validate(alert.status)
    _require_unresolved(alert, old)
    if old.state is AlertState.ACKNOWLEDGED:
        raise Refused(f"{alert.key.short}: {old.acknowledged_by} looks after it", reason="AlreadyAcknowledged")
    return _act(
        tx, alert, old, EventType.ALERT_ACKNOWLEDGED, AlertReason.ACKNOWLEDGED, None, why,
        {"state": AlertState.ACKNOWLEDGED, "acknowledged_by": str(tx.actor), "acknowledged_at": tx.now},
    )  # fmt: skip


def resolve(tx: Transaction, alert: Resource, why: str) -> Resource:
    """Somebody (the actor of the transaction) settled it; the same thing again opens it anew. Raises Refused
    (AlreadyResolved)."""
    old = AlertStatus.model_validate(alert.status)
    _require_unresolved(alert, old)
    return _act(
        tx, alert, old, EventType.ALERT_RESOLVED, AlertReason.RESOLVED, True, why,
        {"state": AlertState.RESOLVED, "resolved_by": str(tx.actor), "resolved_at": tx.now},
    )  # fmt: skip


def _require_unresolved(alert: Resource, status: AlertStatus) -> None:
    if status.state is AlertState.RESOLVED:
        raise Refused(f"{alert.key.short} was settled by {status.resolved_by}", reason="AlreadyResolved")


def _act(
    tx: Transaction, alert: Resource, old: AlertStatus, type_: EventType, reason: AlertReason, settled: bool | None,
    why: str, update: dict[str, object],
) -> Resource:  # fmt: skip
    conditions = set_condition(
        old.conditions, "Succeeded", settled, reason, why, now=tx.now, generation=alert.generation
    )
    alert = tx.put_status(alert, old.model_copy(update={**update, "conditions": conditions}).to_wire())
    tx.event(type_, alert, reason=reason, message=why or alert.spec["title"], data={"related": [alert.owner_uid]})
    return alert


def clear(tx: Transaction, key: Key, why: str) -> None:
    """What it was about is over. No effect on an alert that is gone or settled."""
    alert = tx.get(key)
    if alert is None or alert.state == AlertState.RESOLVED:
        return
    old = AlertStatus.model_validate(alert.status)
    conditions = set_condition(
        old.conditions, "Succeeded", True, AlertReason.CLEARED, why, now=tx.now, generation=alert.generation
    )
    update = {
        "state": AlertState.RESOLVED,
        "conditions": conditions,
        "resolved_by": str(tx.actor),
        "resolved_at": tx.now,
    }
    alert = tx.put_status(alert, old.model_copy(update=update).to_wire())
    tx.event(
        EventType.CONDITION_CHANGED, alert, reason=AlertReason.CLEARED, message=why, data={"related": [alert.owner_uid]}
    )
