"""Alerts about sources, from what a look at one has left in its status: raised while it cannot be applied, settled when
it can be again. What its signatures or its history say against it, a person settles.
"""

from __future__ import annotations

from dataclasses import dataclass

from controllers.reconcilers import alerts
from schemas.alert import AlertState, AlertStatus, AlertType, Severity
from schemas.base import Key
from schemas.conditions import Condition, ConditionStatus, find
from schemas.event import EventType
from schemas.resource import Actor, ActorKind, Resource
from schemas.source import SourceReason, SourceStatus
from store.contract import Snapshot, Store

ACTOR = Actor(ActorKind.SYSTEM, "controller:source", "Engine")
_NO_FAULT = frozenset(
    {SourceReason.SUSPENDED, SourceReason.SYNCING, SourceReason.PRUNE_BLOCKED, SourceReason.WIDENING_PENDING}
)
_UNTRUSTED = ("Signature", "AllowedSigners", "HistoryRewritten")


@dataclass(frozen=True, slots=True)
class _Found:
    """What is to be done about the alerts of a source. ``row`` is that of a rewritten history without an alert."""

    source: Resource
    fails: Condition | None
    works: bool
    row: int

    @property
    def anything(self) -> bool:
        return self.fails is not None or self.works or bool(self.row)


def report(store: Store, key: Key) -> bool:
    """Bring the alerts of a source to what its status says; whether anything was to be done. To be called after each
    look at it; repeating it changes nothing."""
    with store.snapshot() as snapshot:
        found = _look(snapshot, key)
        if found is None or not found.anything:
            return False
    with store.transaction(ACTOR) as tx:
        found = _look(tx, key)
        if found is None:
            return False
        source = found.source
        if found.fails is not None:
            type_, detail = _kind_of(found.fails)
            alerts.raise_alert(
                tx,
                type_,
                source,
                severity=Severity.HIGH,
                title=f"{source.key.short} cannot be applied: {found.fails.reason}",
                message=f"{found.fails.message}. What was applied before stays in force",
                details={"reason": found.fails.reason, "toldBy": EventType.SYNC_FAILED.value},
                detail=detail,
            )
        if found.works:
            alerts.clear(tx, _key(source, AlertType.SYNC_FAILED), "it was applied")
        if found.row:
            alerts.raise_alert(
                tx,
                AlertType.SECURITY_VIOLATION,
                source,
                severity=Severity.HIGH,
                title=f"the history of {source.key.short} was replaced",
                message="a force-push replaced commits that were applied, and the new ones are in force: find out who "
                "did that",
                details={"row": found.row, "toldBy": EventType.HISTORY_REWRITTEN.value},
                detail=_rewritten(found.row),
            )
        return found.anything


def _look(snapshot: Snapshot, key: Key) -> _Found | None:
    source = snapshot.get(key)
    if source is None:
        return None
    ready = find(SourceStatus.model_validate(source.status).conditions, "Ready")
    rows = snapshot.events(subject_uid=source.uid, types=[EventType.HISTORY_REWRITTEN], newest_first=True, limit=1)
    row = rows[0].seq if rows else 0
    fails = ready if ready is not None and ready.status is ConditionStatus.FALSE else None
    if fails is not None and fails.reason in _NO_FAULT:
        fails = None
    failure = _key(source, *_kind_of(fails)) if fails is not None else None
    standing, rewritten = (
        _key(source, AlertType.SYNC_FAILED),
        _key(source, AlertType.SECURITY_VIOLATION, _rewritten(row)),
    )
    known = snapshot.get_many([key for key in (failure, standing, rewritten) if key is not None])
    if fails is not None and failure is not None and _stands(known.get(failure), fails):
        fails = None
    works = ready is not None and ready.status is ConditionStatus.TRUE
    return _Found(
        source,
        fails,
        works and standing in known and known[standing].state != AlertState.RESOLVED,
        row if row and rewritten not in known else 0,
    )


def _stands(alert: Resource | None, fails: Condition) -> bool:
    """Whether the alert is about this failure: it is open, or a person settled it since the failure began."""
    if alert is None:
        return False
    status = AlertStatus.model_validate(alert.status)
    return status.resolved_at is None or status.resolved_at >= fails.last_transition_time


def _kind_of(fails: Condition) -> tuple[AlertType, str]:
    """(type, detail) of the alert about a failure."""
    if fails.reason.startswith(_UNTRUSTED):
        return AlertType.SECURITY_VIOLATION, fails.reason
    return AlertType.SYNC_FAILED, ""


def _rewritten(row: int) -> str:
    return f"rewritten/{row}"


def _key(source: Resource, type_: AlertType, detail: str = "") -> Key:
    return Key("Alert", source.namespace, alerts.alert_name(type_, source.uid, detail))
