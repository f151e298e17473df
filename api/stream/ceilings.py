"""How many streams of a tenant may be open: ``limits.maxEventStreams``. A stream that names no namespace shows every
tenant, and counts in each."""

from __future__ import annotations

from collections.abc import Mapping

from api.problems import Problem
from schemas.parsed import parsed
from schemas.tenant import TenantSpec
from store.contract import Snapshot

RETRY_S = 10


def limits(snapshot: Snapshot) -> dict[str, int]:
    """What each declared tenant allows, by name."""
    found = snapshot.objects("Tenant")
    return {tenant.name: parsed(TenantSpec, tenant.spec).limits.max_event_streams for tenant in found}


class Ceilings:
    """Counts the streams that are open. For one event loop."""

    def __init__(self) -> None:
        self._everything = 0
        self._of: dict[str, int] = {}

    def open(self, shown: frozenset[str], limits: Mapping[str, int]) -> None:
        """Count a stream that shows these namespaces; all of them where it names none. Raises Problem (429) when a
        tenant has no room for it."""
        for name in sorted(shown or limits):
            most = limits.get(name)
            if most is not None and self.count(name) >= most:
                text = f"tenant/{name} has {most} event streams open, as many as it may (spec.limits.maxEventStreams)"
                raise Problem(429, "TooManyStreams", text, retry_after_s=RETRY_S)
        if not shown:
            self._everything += 1
        for name in shown:
            self._of[name] = self._of.get(name, 0) + 1

    def close(self, shown: frozenset[str]) -> None:
        """One that was counted is over."""
        if not shown:
            self._everything -= 1
        for name in shown:
            self._of[name] -= 1
            if not self._of[name]:
                del self._of[name]

    def count(self, tenant: str) -> int:
        """Streams that show a tenant."""
        return self._everything + self._of.get(tenant, 0)
