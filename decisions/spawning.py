"""May an agent spawn another, on what terms, and when does a sub-agent end?

A sub-agent never has more than its parent: not the level, not the tools, not the time, not the money, which is taken
out of the parent's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from decisions.policy import globs
from schemas.agent import AutonomyLevel, SubAgents
from schemas.policy import SpawnLimits
from schemas.quantities import format_duration

LEVELS = (AutonomyLevel.INTERN, AutonomyLevel.SPECIALIST, AutonomyLevel.LEAD)
"""From the least to the most that an agent does alone."""
RETRY_S = 30.0
"""When a place may be free again, where nobody knows better."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for; None is what the parent has."""

    level: AutonomyLevel | None
    tools: tuple[str, ...] | None
    ttl: timedelta | None


@dataclass(frozen=True, slots=True)
class Parent:
    """Who asks. ``declared`` is its spec.subAgents, ``depth`` 0 for a declared agent, ``until`` the end of a parent
    that is a sub-agent itself."""

    level: AutonomyLevel
    tools: tuple[str, ...]
    declared: SubAgents
    depth: int
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Alive:
    """Sub-agents that have not ended: in the namespace, and below this parent; when the next of each ends by itself."""

    active: int
    of_parent: int
    next_end: datetime | None
    tenant_limit: int


@dataclass(frozen=True, slots=True)
class Terms:
    """What the sub-agent gets. ``may_spawn`` is its own spec.subAgents."""

    level: AutonomyLevel
    tools: tuple[str, ...]
    depth: int
    expires_at: datetime
    may_spawn: SubAgents


@dataclass(frozen=True, slots=True)
class Denial:
    """Why not. ``after_s`` is set where it is a matter of time."""

    reason: str
    message: str
    after_s: float | None = None


def weigh(parent: Parent, wish: Wish, limits: SpawnLimits, alive: Alive, now: datetime) -> Terms | Denial:
    """The terms of a sub-agent, or why there is none. Of Policies and Agent.spec.subAgents the tighter counts."""
    own = parent.declared
    if parent.level is AutonomyLevel.INTERN or not own.allowed:
        return Denial("SpawnNotAllowed", "spec.subAgents.allowed of the agent is false; an Intern may never spawn")
    # A sub-agent's own maxDepth is what was left of its parent's.
    deepest = min(limits.max_depth, parent.depth + own.max_depth)
    if parent.depth + 1 > deepest:
        return Denial("SpawnTooDeep", f"sub-agents reach {deepest} generations deep at most, this would be one more")
    level = wish.level or parent.level
    if LEVELS.index(level) > LEVELS.index(parent.level):
        return Denial("LevelAboveParent", f"{level} is more than {parent.level}, which its parent is")
    tools = parent.tools if wish.tools is None else wish.tools
    wider = [tool for tool in tools if not covered(parent.tools, tool)]
    if wider:
        return Denial("ToolsBeyondParent", f"its parent may not call {', '.join(wider[:5])}")
    most = min(limits.max_per_parent, own.max)
    if alive.of_parent >= most:
        return _full(f"{alive.of_parent} sub-agents of this agent are alive; at most {most}", alive, now)
    everywhere = min(limits.max_active, alive.tenant_limit)
    if alive.active >= everywhere:
        return _full(f"{alive.active} sub-agents are alive in all; at most {everywhere}", alive, now)
    longest = min(limits.ttl, own.ttl)
    if wish.ttl is not None and wish.ttl > longest:
        return Denial("TtlTooLong", f"a sub-agent lives {format_duration(longest)} at most")
    until = now + (wish.ttl or longest)
    if parent.until is not None:
        until = min(until, parent.until)
    left = deepest - parent.depth - 1
    may_spawn = SubAgents(
        allowed=level is not AutonomyLevel.INTERN and left > 0, max=own.max, max_depth=max(1, left), ttl=own.ttl
    )
    return Terms(level, tools, parent.depth + 1, until, may_spawn)


def _full(message: str, alive: Alive, now: datetime) -> Denial:
    after = RETRY_S
    if alive.next_end is not None:
        after = min(max((alive.next_end - now).total_seconds(), 1.0), 3600.0)
    return Denial("TooManySubAgents", message, after)


def covered(granted: Iterable[str], wanted: str) -> bool:
    """Whether every tool that ``wanted`` can match is granted. Globs that cannot be compared count as wider."""
    for pattern in granted:
        if pattern in (wanted, "*"):
            return True
        if not globs.is_glob(wanted):
            if globs.matches_name(pattern, wanted):
                return True
        elif pattern.endswith("*") and not globs.is_glob(pattern[:-1]):
            fixed = wanted[: next(i for i, mark in enumerate(wanted) if mark in "*?[")]
            if fixed.startswith(pattern[:-1]):
                return True
    return False


@dataclass(frozen=True, slots=True)
class Life:
    """What a sub-agent's life depends on. ``asked`` is why it was told to end, "" when it was not."""

    expires_at: datetime
    asked: str
    parent_run_open: bool
    parent_mission_open: bool


def why_end(life: Life, now: datetime) -> str:
    """Why it ends now, one word; "" while it goes on."""
    if life.asked:
        return life.asked
    if not life.parent_run_open:
        return "ParentEnded"
    if not life.parent_mission_open:
        return "ParentMissionEnded"
    return "Expired" if now >= life.expires_at else ""


def narrowed(level: AutonomyLevel, tools: tuple[str, ...], parent: Parent) -> tuple[AutonomyLevel, tuple[str, ...]]:
    """Level and tools of a living sub-agent, now that its parent has what ``parent`` says."""
    lower = min(level, parent.level, key=LEVELS.index)
    return lower, tuple(tool for tool in tools if covered(parent.tools, tool))
