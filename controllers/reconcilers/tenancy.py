"""What a tenant allows, read in the transaction that is about to start, spawn or take in something."""

from __future__ import annotations

from schemas.base import Key
from schemas.errors import OverLimit
from schemas.mission import MissionState
from schemas.parsed import parsed
from schemas.tenant import TenantLimits, TenantSpec
from store.contract import Snapshot

WAITING = (MissionState.INBOX.value, MissionState.ASSIGNED.value)
AFTER_S = 60.0
"""When room may be found again, where nobody knows better."""


def limits(snapshot: Snapshot, tenant: str) -> TenantLimits:
    """The limits of a tenant; the built-in ones where nobody declared it."""
    found = snapshot.get(Key("Tenant", "", tenant))
    return TenantLimits() if found is None else parsed(TenantSpec, found.spec).limits


def most_agents(snapshot: Snapshot, tenant: str) -> int:
    """Agents of a tenant that may have an open run at a time."""
    return limits(snapshot, tenant).max_active_agents


def require_room(snapshot: Snapshot, tenant: str) -> None:
    """For whoever makes missions on an agent's word. Raises OverLimit when so many missions of the tenant wait that
    none would be taken in: what a source declares waits instead, and is not lost."""
    most = limits(snapshot, tenant).max_waiting_missions
    waiting = snapshot.count("Mission", namespace=tenant, states=WAITING)
    if waiting >= most:
        raise OverLimit(
            f"{waiting:,} missions of tenant/{tenant} wait, and {most:,} may (spec.limits.maxWaitingMissions)",
            reason="QueueFull",
            after=AFTER_S,
        )
