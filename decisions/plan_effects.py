"""What a plan does to the running fleet, beyond its fields: work interrupted, money, permissions, fire times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from decisions.budgets import daily_ceiling
from decisions.plan import Action, Entry, Plan
from decisions.schedules import next_fires
from schemas.base import Key
from schemas.kind import Disruption
from schemas.quantities import format_money, format_time

_FIRES = 3


class EffectKind(StrEnum):
    """What is affected."""

    WIDENS = "Widens"  # a limit gets looser
    NARROWS = "Narrows"  # a limit gets tighter
    INTERRUPTS = "Interrupts"  # running work is stopped
    DRAINS = "Drains"  # running work ends first
    UPDATES = "Updates"  # new work gets the new spec; what runs notices nothing
    SPEND = "Spend"  # the daily ceiling moves
    STARTS = "Starts"  # a mission becomes runnable
    FIRES = "Fires"  # a schedule's next times


@dataclass(frozen=True, slots=True)
class PlanEffect:
    """One consequence, for people."""

    kind: EffectKind
    subject: str
    message: str


Side = Mapping[Key, tuple[Mapping[str, str], Mapping[str, Any]]]
"""The objects of one side of the plan: key -> (labels, canonical spec)."""


def predict(plan: Plan, before: Side, after: Side, now: datetime) -> list[PlanEffect]:
    """Effects of the plan, widenings first, then in plan order. ``before`` and ``after`` hold every object that counts
    (the unit, or the whole store)."""
    widens, rest = [], []
    for entry in plan.entries:
        subject = entry.key.short
        widens += [PlanEffect(EffectKind.WIDENS, subject, text) for text in entry.widens]
        rest += [PlanEffect(EffectKind.NARROWS, subject, text) for text in entry.narrows]
        rest += _work(entry, after)
        rest += _fires(entry, after, now)
    old = daily_ceiling((k, labels, spec) for k, (labels, spec) in before.items())
    new = daily_ceiling((k, labels, spec) for k, (labels, spec) in after.items())
    if old != new:
        text = f"at most {format_money(old)} -> {format_money(new)} USD a day"
        rest.append(PlanEffect(EffectKind.SPEND, "fleet", text))
    return [*widens, *rest]


def _work(entry: Entry, after: Side) -> list[PlanEffect]:
    subject, spec = entry.key.short, after.get(entry.key, ({}, {}))[1]
    runs = f"{entry.active} open run{'s' if entry.active != 1 else ''}"
    if entry.action is Action.CREATE and entry.key.kind == "Mission" and spec.get("agentRef"):
        return [PlanEffect(EffectKind.STARTS, subject, f"for agent/{spec['agentRef']['name']}")]
    if entry.key.kind == "Mission" and spec.get("desiredState") == "Canceled" and entry.action is not Action.DELETE:
        return [PlanEffect(EffectKind.INTERRUPTS, subject, f"canceled; {runs}")] if entry.active else []
    if entry.key.kind in ("Agent", "Executor") and entry.action in (Action.UPDATE, Action.RENAME):
        return _update(entry, spec, runs)
    if not entry.active:
        return []
    if entry.action is Action.DELETE:
        return [PlanEffect(EffectKind.DRAINS, subject, f"deleted once its {runs} ended or were stopped")]
    if entry.key.kind == "Mission" and entry.disruption is Disruption.DRAIN:
        return [PlanEffect(EffectKind.INTERRUPTS, subject, f"reassigned; {runs} stopped, a new one follows")]
    return []


def _update(entry: Entry, spec: Mapping[str, Any], runs: str) -> list[PlanEffect]:
    """What an edit of an agent or executor does to work: restart, drain, or nothing that runs notices; and what serves
    should the new spec not be healthy."""
    subject = entry.key.short
    if not any(c.path.startswith("spec.") for c in entry.changes):
        return []
    if entry.key.kind == "Agent" and entry.disruption in (Disruption.DRAIN, Disruption.RESTART):
        policy = str(spec.get("updatePolicy", "OnIdle"))
        if entry.active or policy == "Manual":
            found = _agent_update(subject, policy, runs)
        else:
            found = PlanEffect(EffectKind.UPDATES, subject, "no restart: no run is open; new runs get the new spec")
    elif entry.key.kind == "Agent" and entry.disruption is Disruption.LIVE:
        return [PlanEffect(EffectKind.UPDATES, subject, "no restart: holds at the next decision")]
    else:
        found = PlanEffect(
            EffectKind.UPDATES, subject, "no restart: open runs go on as they began; new runs get the new spec"
        )
    serves = (
        "it is tighter: nothing starts while it is not healthy" if entry.narrows
        else "the last good one serves while it is not healthy"
    )  # fmt: skip
    return [PlanEffect(found.kind, subject, f"{found.message}; {serves}")]


def _agent_update(subject: str, policy: str, runs: str) -> PlanEffect:
    texts = {
        "OnIdle": (EffectKind.DRAINS, f"new spec holds when its {runs} ended (updatePolicy OnIdle)"),
        "Drain": (EffectKind.DRAINS, f"starts nothing until its {runs} ended (updatePolicy Drain)"),
        "Immediate": (EffectKind.INTERRUPTS, f"its {runs} are stopped and begun again (updatePolicy Immediate)"),
        "Manual": (EffectKind.DRAINS, f"new spec waits for a request; {runs} go on (updatePolicy Manual)"),
    }
    kind, text = texts[policy]
    return PlanEffect(kind, subject, text)


def _fires(entry: Entry, after: Side, now: datetime) -> list[PlanEffect]:
    if entry.key.kind != "Schedule" or entry.action is Action.DELETE:
        return []
    spec = after.get(entry.key, ({}, {}))[1]
    times = next_fires(str(spec.get("schedule", "")), str(spec.get("timeZone") or "UTC"), now, _FIRES)
    if spec.get("suspend") or not times:
        return [
            PlanEffect(EffectKind.FIRES, entry.key.short, "not at all: suspended" if spec.get("suspend") else "never")
        ]
    return [PlanEffect(EffectKind.FIRES, entry.key.short, ", ".join(format_time(t) for t in times))]
