"""Adding up what was used: by agent, mission, project, goal, tenant, provider, model or day. Whole numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import date
from enum import StrEnum


class By(StrEnum):
    """What costs are told apart by."""

    AGENT = "agent"
    MISSION = "mission"
    PROJECT = "project"
    GOAL = "goal"
    TENANT = "tenant"
    PROVIDER = "provider"
    MODEL = "model"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums. Money in millionths of a USD: ``settled`` is what is known, ``unknown`` what counts as the worst case
    because nobody knows, ``reserved`` what is set aside for work under way."""

    settled: int = 0
    unknown: int = 0
    reserved: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    unknown_tokens: int = 0
    tool_calls: int = 0
    wall_ms: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Used:
    """One thing that counts, and where. An empty name stands for none. ``unpriced`` models have tokens but no price."""

    tenant: str
    figures: Figures
    agent: str = ""
    mission: str = ""
    project: str = ""
    goal: str = ""
    provider: str = ""
    model: str = ""
    day: date | None = None
    unpriced: bool = False


@dataclass(frozen=True, slots=True)
class Costs:
    """``rows`` by name, with their sums; what has no name comes last. ``total`` is the sum of the rows."""

    rows: tuple[tuple[str, Figures], ...]
    total: Figures
    unpriced: tuple[str, ...] = ()


def add_up(used: Iterable[Used], by: By) -> Costs:
    """The sums. Days are in the order of time, everything else in that of names."""
    sums: dict[str, Figures] = {}
    unpriced: set[str] = set()
    for one in used:
        name = _name(one, by)
        sums[name] = sums.get(name, Figures()) + one.figures
        if one.unpriced:
            unpriced.add(one.model)
    rows = sorted(sums.items(), key=lambda row: (not row[0], row[0]))
    return Costs(tuple(rows), sum(sums.values(), Figures()), tuple(sorted(unpriced)))


def _name(used: Used, by: By) -> str:
    if by is By.DAY:
        return "" if used.day is None else used.day.isoformat()
    return str(getattr(used, by.value))
