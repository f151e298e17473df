"""Forgets what people were told long ago. What happened stays in the event log."""

from __future__ import annotations

from datetime import datetime, timedelta

from schemas.base import Key
from schemas.notification import NotificationState
from schemas.quantities import parse_time
from schemas.resource import SYSTEM, Resource
from schemas.tenant import TenantSpec
from store.contract import Snapshot, Store

KEEP = timedelta(days=30)
"""Unless the tenant's retention.records says another time."""
MOST = 10_000
"""So many of a namespace are kept at most: the latest ones."""
_BATCH = 500


def prune(store: Store, now: datetime) -> int:
    """Remove what is older, or more, than is kept; returns how many. What is still to go out stays."""
    with store.snapshot() as snapshot:
        doomed = _doomed(snapshot, now)
    for start in range(0, len(doomed), _BATCH):
        with store.transaction(SYSTEM) as tx:
            for notice in tx.get_many([n.key for n in doomed[start : start + _BATCH]]).values():
                if notice.state != NotificationState.WAITING:
                    tx.remove(notice)
    return len(doomed)


def _doomed(snapshot: Snapshot, now: datetime) -> list[Resource]:
    spaces: dict[str, list[Resource]] = {}
    for notice in snapshot.objects("Notification"):
        if notice.state != NotificationState.WAITING:
            spaces.setdefault(notice.namespace, []).append(notice)
    found: list[Resource] = []
    for namespace, notices in spaces.items():
        oldest = _keep(snapshot, namespace)
        notices.sort(key=lambda n: str(n.spec["at"]), reverse=True)
        found += [n for place, n in enumerate(notices) if place >= MOST or _at(n) + oldest <= now]
    return found


def _keep(snapshot: Snapshot, namespace: str) -> timedelta:
    tenant = snapshot.get(Key("Tenant", "", namespace))
    declared = TenantSpec.model_validate(tenant.spec).retention.records if tenant is not None else None
    return declared or KEEP


def _at(notice: Resource) -> datetime:
    found: datetime = parse_time(notice.spec["at"])
    return found
