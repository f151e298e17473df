"""How far a Goal is, and which of its missions are made at a look: one for each template whose last has ended, as long
as the target is not reached and nothing stands in the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from schemas.goal import GoalSpec
from schemas.mission import TERMINAL_STATES, MissionState

SHARE_DONE = "missions.done"
"""The metric that needs no report: the share of the goal's missions that are Done."""
MOST_FAILURES = 3
"""After so many missions of one template that failed in a row, no more are made of it until somebody looked."""


@dataclass(frozen=True, slots=True)
class TemplateFacts:
    """The last mission of a template: its state (None when there is none), and how many failed in a row."""

    last: MissionState | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True)
class GoalFacts:
    """What is known at a look. ``figure`` is the latest value of the declared metric, None when nothing told it yet.
    ``stands``: nothing new may be made, because it is suspended or held."""

    spec: GoalSpec
    total: int
    done: int
    figure: float | None
    templates: Mapping[str, TemplateFacts]
    reviewed_at: datetime | None
    stands: bool


@dataclass(frozen=True, slots=True)
class GoalDecision:
    """What follows. ``make``: templates to make a mission of; ``failing``: those that none are made of any more."""

    value: float | None
    progress: float | None
    reached: bool
    overdue: bool
    due: bool
    next_review: datetime
    make: tuple[str, ...]
    failing: tuple[str, ...]


def decide(facts: GoalFacts, now: datetime, *, asked: bool = False) -> GoalDecision:
    """The look at ``now``. Missions are made when the cadence is due or somebody ``asked``."""
    spec = facts.spec
    value, progress, reached = measured(facts)
    due = asked or facts.reviewed_at is None or now >= facts.reviewed_at + spec.cadence
    failing = tuple(sorted(name for name, known in facts.templates.items() if known.failures >= MOST_FAILURES))
    make: tuple[str, ...] = ()
    if due and not reached and not facts.stands:
        make = tuple(t.name for t in spec.mission_templates if t.name not in failing and _free(facts, t.name))
    looked = now if due or facts.reviewed_at is None else facts.reviewed_at
    return GoalDecision(
        value=value,
        progress=progress,
        reached=reached,
        overdue=spec.deadline is not None and now >= spec.deadline and not reached,
        due=due,
        next_review=looked + spec.cadence,
        make=make,
        failing=failing,
    )


def _free(facts: GoalFacts, template: str) -> bool:
    last = facts.templates.get(template, TemplateFacts()).last
    return last is None or last in TERMINAL_STATES


def measured(facts: GoalFacts) -> tuple[float | None, float | None, bool]:
    """(value, progress from 0 to 1, whether the target is reached). Without a metric the goal is reached when all of
    its missions are Done, and there is one."""
    metric = facts.spec.metric
    share = facts.done / facts.total if facts.total else None
    if metric is None:
        return share, share, share == 1.0
    value = share if metric.source == SHARE_DONE else facts.figure
    if value is None:
        return None, None, False
    progress = min(1.0, max(0.0, (value - metric.start) / (metric.target - metric.start)))
    reached = value <= metric.target if metric.start > metric.target else value >= metric.target
    return value, progress, reached


def mission_name(goal: str, template: str, number: int) -> str:
    """Name of the mission ``number`` of a template."""
    return f"{goal}-{template}-{number}"
