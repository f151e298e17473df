"""What a tenant allows, read in the transaction that is about to start, spawn or take in something."""

from __future__ import annotations

from schemas.base import Key
from schemas.parsed import parsed
from schemas.tenant import TenantLimits, TenantSpec
from store.contract import Snapshot


def limits(snapshot: Snapshot, tenant: str) -> TenantLimits:
    """The limits of a tenant; the built-in ones where nobody declared it."""
    found = snapshot.get(Key("Tenant", "", tenant))
    return TenantLimits() if found is None else parsed(TenantSpec, found.spec).limits


def most_agents(snapshot: Snapshot, tenant: str) -> int:
    """Agents of a tenant that may have an open run at a time."""
    return limits(snapshot, tenant).max_active_agents
