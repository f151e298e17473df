"""Built-in limits, in force where no Budget says otherwise (design semantics, "Budgets"), and what a day may cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from schemas.base import Key

AGENT_DAY_USD = {"Intern": Decimal(2), "Specialist": Decimal(5), "Lead": Decimal(12)}
RUN_USD = {"Intern": Decimal("0.25"), "Specialist": Decimal("0.75"), "Lead": Decimal("1.50")}

Objects = Iterable[tuple[Key, Mapping[str, str], Mapping[str, Any]]]
"""(key, labels, canonical spec) of each object."""


def run_worst_case(agent_spec: Mapping[str, Any]) -> Decimal:
    """What one run is reserved at. A program without a model costs nothing that Remit could count."""
    if not agent_spec.get("model"):
        return Decimal(0)
    return RUN_USD[str(agent_spec.get("autonomyLevel", "Intern"))]


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
        builtin = AGENT_DAY_USD[str(spec.get("autonomyLevel", "Intern"))]
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
