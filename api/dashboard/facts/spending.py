"""What work cost lately, from the ends of runs in the event log; and how full budgets are."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from api.dashboard.facts.shapes import Bar
from api.dashboard.text import decimal, money
from schemas.event import EventType
from schemas.resource import Resource
from store.contract import Snapshot

HOURS = 24
ENDS = 2000
"""Ends of runs that are looked at; beyond it the figures are of the latest so many."""


@dataclass(slots=True)
class Burn:
    """Millionths of a USD in each of the last 24 hours, oldest first; by agent uid, and in all. ``done`` counts runs
    that ended well, by agent uid."""

    hours: list[int] = field(default_factory=lambda: [0] * HOURS)
    agents: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0] * HOURS))
    done: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    failed: int = 0
    runs: int = 0
    cut: bool = False

    @property
    def total(self) -> int:
        """Of the whole day."""
        return sum(self.hours)

    @property
    def last_hour(self) -> int:
        """Of the last hour."""
        return self.hours[-1]

    def of(self, uid: str) -> list[int]:
        """One agent's."""
        return self.agents.get(uid) or [0] * HOURS


def burn(snapshot: Snapshot, now: datetime, *, namespace: str | None = None) -> Burn:
    """The last day."""
    found = Burn()
    since = now - timedelta(hours=HOURS)
    ends = snapshot.events(
        types=[EventType.RUN_FINISHED], since=since, namespace=namespace, limit=ENDS, newest_first=True
    )
    found.cut = len(ends) == ENDS
    for event in ends:
        hour = min(HOURS - 1, max(0, int((event.at - since).total_seconds() // 3600)))
        used = event.data.get("settledUsdMicros", 0)
        used = used if isinstance(used, int) else 0
        related = event.data.get("related") or []
        agent = str(related[1]) if isinstance(related, list) and len(related) > 1 else ""
        found.hours[hour] += used
        found.agents[agent][hour] += used
        found.runs += 1
        if event.data.get("state") == "Succeeded":
            found.done[agent] += 1
        else:
            found.failed += 1
    return found


def share(budget: Resource) -> float | None:
    """How full it is, in money; None without a limit of money."""
    limit = decimal((budget.spec.get("limits") or {}).get("usd"))
    spent = decimal((budget.status.get("spent") or {}).get("usd"))
    if limit is None:
        return None
    if not limit:
        return 1.0
    return float((spent or 0) / limit)


def bar(budget: Resource) -> Bar | None:
    """The same, drawn."""
    found = share(budget)
    if found is None:
        return None
    spent = (budget.status.get("spent") or {}).get("usd", "0")
    return Bar(
        found,
        f"{money(spent)} of {money(budget.spec['limits']['usd'])}",
        found >= float(budget.spec.get("warnAt", 0.8)),
    )


def cost(status: dict[str, Any]) -> str:
    """What an object's ``status.spend`` says."""
    return money((status.get("spend") or {}).get("usd"))
