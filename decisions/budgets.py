"""What a day may cost at most, for the prediction of a plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from schemas.agent import AutonomyLevel
from schemas.base import Key
from schemas.budget import DEFAULT_AGENT_DAY_USD

Objects = Iterable[tuple[Key, Mapping[str, str], Mapping[str, Any]]]
"""(key, labels, canonical spec) of each object."""


def daily_ceiling(objects: Objects) -> Decimal:
    """The most that all agents together may spend in a day: for each agent with a model its tightest daily budget or
    the built-in one, and for each tenant no more than its own daily budget."""
    agents: list[tuple[Key, Mapping[str, str], Mapping[str, Any]]] = []
    budgets: list[tuple[Key, Mapping[str, Any]]] = []
    for key, labels, spec in objects:
        if key.kind == "Agent" and spec.get("model"):
            agents.append((key, labels, spec))
        elif key.kind == "Budget" and spec.get("window") == "Day" and spec.get("limits", {}).get("usd") is not None:
            budgets.append((key, spec))
    by_tenant: dict[str, Decimal] = {}
    for key, labels, spec in agents:
        limits = [
            Decimal(str(budget["limits"]["usd"]))
            for place, budget in budgets
            if place.namespace == key.namespace and _covers(budget.get("scope", {}), labels)
        ]
        builtin = DEFAULT_AGENT_DAY_USD[AutonomyLevel(spec.get("autonomyLevel", "Intern"))]
        by_tenant[key.namespace] = by_tenant.get(key.namespace, Decimal(0)) + (min(limits) if limits else builtin)
    for place, budget in budgets:
        scope = budget.get("scope", {})
        tenant = scope.get("tenant")
        if tenant:
            name = place.namespace if tenant is True else str(tenant)
            if name in by_tenant:
                by_tenant[name] = min(by_tenant[name], Decimal(str(budget["limits"]["usd"])))
    return sum(by_tenant.values(), Decimal(0))


def _covers(scope: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    selector = scope.get("agentSelector")
    if selector is None:
        return False
    return all(labels.get(k) == v for k, v in selector.get("matchLabels", {}).items())
