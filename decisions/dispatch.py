"""Which mission is next: highest effective priority, then who is behind its fair share, then longest ready, then by
name. Deterministic: the same facts give the same order.

**Ageing.** A mission that waits gains a point of priority every AGE_STEP, without end: so nothing starves, whatever
else arrives. **Fair share.** Tenants, the projects of a tenant, and the agents of a project each get the same number
of runs from what they share, as long as they have something to run. Whoever is ahead of the others loses points of age
for it, never of declared priority: LEAD_STEP for each run, up to LEAD_MOST runs. The age bonus has no such bound, so a
mission of priority p goes before everything that arrives once it has waited ``longest_wait(p)``.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from schemas.base import Key

AGE_STEP = timedelta(minutes=10)
"""A waiting mission gains one point of priority for each such step: 100 points in 17 h."""
LEAD_STEP = 10
"""Points of age that a run ahead of the others costs."""
LEAD_MOST = 10
"""Runs ahead that count at most: who was alone for long, or more urgent, does not pay for it for ever."""
HIGHEST = 100


class Lane(NamedTuple):
    """Who shares: a mission's tenant, its project ("" for none) and its agent."""

    tenant: str
    project: str
    agent: Key


class Lead(NamedTuple):
    """Runs that a lane is ahead of the least served of its kind, on each level."""

    tenant: int = 0
    project: int = 0
    agent: int = 0

    @property
    def points(self) -> int:
        """What that costs of the age bonus."""
        return LEAD_STEP * min(LEAD_MOST, self.tenant + self.project + self.agent)


NO_LEAD = Lead()
NOBODY = Lane("", "", Key("Agent", "", ""))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A mission that could run but for its turn."""

    key: Key
    priority: int
    ready_since: datetime
    lane: Lane = NOBODY


def age_bonus(candidate: Candidate, now: datetime) -> int:
    """Points for the time that it has waited."""
    return max(0, (now - candidate.ready_since) // AGE_STEP)


def effective_priority(candidate: Candidate, now: datetime, lead: Lead = NO_LEAD) -> int:
    """Declared priority plus what its lead leaves of the age bonus; never below the declared one."""
    return candidate.priority + max(0, age_bonus(candidate, now) - lead.points)


def longest_wait(priority: int) -> timedelta:
    """After that nothing that arrives later goes before a mission of this priority, whoever is ahead."""
    return AGE_STEP * (HIGHEST - priority + LEAD_STEP * LEAD_MOST + 1)


def order(candidates: Iterable[Candidate], now: datetime) -> list[Candidate]:
    """The order in which free places are given out among those whose shares are even. The same facts give the same
    order."""
    return sorted(candidates, key=lambda c: _rank(c, now, NO_LEAD))


Rank = tuple[int, Lead, datetime, Key]


def _rank(candidate: Candidate, now: datetime, lead: Lead) -> Rank:
    return -effective_priority(candidate, now, lead), lead, candidate.ready_since, candidate.key


@dataclass(slots=True)
class _Level:
    """The children of one parent: how many runs each got. ``clock`` is where who wanted nothing for a while begins: it
    gains nothing by that, and nobody is ahead of another by more than LEAD_MOST."""

    clock: int = 0
    served: dict[object, int] = field(default_factory=dict)

    def of(self, child: object) -> int:
        return max(self.served.get(child, 0), self.clock)

    def charge(self, child: object, wanting: Iterable[object]) -> None:
        clock = max(self.clock, min((self.of(other) for other in wanting), default=self.clock))
        runs = max(self.served.get(child, 0), clock) + 1
        self.clock = max(clock, runs - LEAD_MOST)
        self.served = {other: count for other, count in self.served.items() if count > self.clock}
        self.served[child] = runs


class Shares:
    """What was given out of one thing that several share (the slots of a provider, the places of an agent). Small: it
    holds who is ahead, and by how much. Not thread-safe."""

    def __init__(self) -> None:
        self._levels: dict[tuple[str, ...], _Level] = {}

    def leads(self, lanes: Iterable[Lane]) -> dict[Lane, Lead]:
        """How far each of the lanes that want something is ahead of the least served of them, on each level."""
        lanes = list(lanes)
        least = {
            parent: min(self._of(parent, child) for child in children) for parent, children in _wanting(lanes).items()
        }
        return {lane: Lead(*(self._of(*step) - least[step[0]] for step in _steps(lane))) for lane in lanes}

    def _of(self, parent: tuple[str, ...], child: object) -> int:
        level = self._levels.get(parent)
        return 0 if level is None else level.of(child)

    def charge(self, lane: Lane, lanes: Iterable[Lane] = ()) -> None:
        """A run of the lane was ordered; ``lanes`` are those that wanted one."""
        wanting = _wanting([lane, *lanes])
        for parent, child in _steps(lane):
            self._levels.setdefault(parent, _Level()).charge(child, wanting[parent])


def _wanting(lanes: Iterable[Lane]) -> dict[tuple[str, ...], set[object]]:
    """The children that want something, by parent."""
    found: dict[tuple[str, ...], set[object]] = {}
    for lane in lanes:
        for parent, child in _steps(lane):
            found.setdefault(parent, set()).add(child)
    return found


def _steps(lane: Lane) -> tuple[tuple[tuple[str, ...], object], ...]:
    return ((), lane.tenant), ((lane.tenant,), lane.project), ((lane.tenant, lane.project), lane.agent)


class _Line:
    """The missions of one lane and one declared priority, longest ready first. What left is dropped when it comes up,
    or when more has left than is there."""

    __slots__ = ("_gone", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, Key]] = []
        self._gone = 0

    def add(self, candidate: Candidate) -> None:
        heapq.heappush(self._heap, (candidate.ready_since, candidate.key))

    def drop(self, candidate: Candidate, there: Mapping[Key, Candidate]) -> None:
        if self._heap and self._heap[0] == (candidate.ready_since, candidate.key):
            heapq.heappop(self._heap)
            return
        self._gone += 1
        if self._gone * 2 > len(self._heap):
            self._heap = list({entry for entry in self._heap if self._is(entry, there)})
            heapq.heapify(self._heap)
            self._gone = 0

    def head(self, there: Mapping[Key, Candidate]) -> Candidate | None:
        while self._heap and not self._is(self._heap[0], there):
            heapq.heappop(self._heap)
            self._gone = max(0, self._gone - 1)
        return there[self._heap[0][1]] if self._heap else None

    def heads(self, there: Mapping[Key, Candidate], most: int) -> list[Candidate]:
        if most == 1:
            head = self.head(there)
            return [] if head is None else [head]
        return heapq.nsmallest(most, there.values(), key=lambda c: (c.ready_since, c.key))

    @staticmethod
    def _is(entry: tuple[datetime, Key], there: Mapping[Key, Candidate]) -> bool:
        candidate = there.get(entry[1])
        return candidate is not None and candidate.ready_since == entry[0]


class Waiting:
    """Missions that wait for a place. To add one, take one out or find the next costs what there is of lanes and
    declared priorities, not what waits. Not thread-safe."""

    def __init__(self) -> None:
        self._lines: dict[Lane, dict[int, _Line]] = {}
        self._there: dict[Lane, dict[int, dict[Key, Candidate]]] = {}
        self._of: dict[Key, Candidate] = {}
        self._lanes: dict[Key, set[Lane]] = {}
        self._tenants: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._of)

    def __contains__(self, mission: Key) -> bool:
        return mission in self._of

    def count(self, tenant: str) -> int:
        """How many of a tenant wait."""
        return self._tenants.get(tenant, 0)

    def of_agents(self, agents: Iterable[Key]) -> int:
        """How many wait for one of these agents."""
        lanes = (lane for agent in agents for lane in self._lanes.get(agent, ()))
        return sum(len(there) for lane in lanes for there in self._there[lane].values())

    def heads(self, agent: Key, most: int) -> list[Candidate]:
        """``most`` of those that wait for an agent, of each lane and priority the longest ready ones; in no order."""
        found: list[Candidate] = []
        for lane in self._lanes.get(agent, ()):
            for priority, line in self._lines[lane].items():
                found += line.heads(self._there[lane][priority], most)
        return heapq.nsmallest(most, found, key=lambda c: (-c.priority, c.ready_since, c.key))

    def agents(self) -> Set[Key]:
        """Agents that somebody waits for."""
        return self._lanes.keys()

    def add(self, candidate: Candidate) -> None:
        """Take in; who waits already waits as told now."""
        if self._of.get(candidate.key) == candidate:
            return
        self.discard(candidate.key)
        lane, priority = candidate.lane, candidate.priority
        self._of[candidate.key] = candidate
        self._there.setdefault(lane, {}).setdefault(priority, {})[candidate.key] = candidate
        self._lines.setdefault(lane, {}).setdefault(priority, _Line()).add(candidate)
        self._lanes.setdefault(lane.agent, set()).add(lane)
        self._tenants[lane.tenant] = self._tenants.get(lane.tenant, 0) + 1

    def discard(self, mission: Key) -> Candidate | None:
        """It waits no more; how it waited."""
        candidate = self._of.pop(mission, None)
        if candidate is None:
            return None
        lane, priority = candidate.lane, candidate.priority
        there = self._there[lane][priority]
        del there[mission]
        self._tenants[lane.tenant] -= 1
        if not self._tenants[lane.tenant]:
            del self._tenants[lane.tenant]
        if there:
            self._lines[lane][priority].drop(candidate, there)
            return candidate
        del self._there[lane][priority], self._lines[lane][priority]
        if not self._there[lane]:
            del self._there[lane], self._lines[lane]
            self._lanes[lane.agent].discard(lane)
            if not self._lanes[lane.agent]:
                del self._lanes[lane.agent]
        return candidate

    def lanes(self, agents: Iterable[Key]) -> list[Lane]:
        """The lanes in which somebody waits for one of these agents."""
        return [lane for agent in agents for lane in self._lanes.get(agent, ())]

    def first(self, agents: Iterable[Key], shares: Shares, now: datetime) -> tuple[Candidate, Lead] | None:
        """The best of those that wait for one of these agents, and the lead of its lane; None when nobody does."""
        lanes = self.lanes(agents)
        if not lanes:
            return None
        best: tuple[Rank, Candidate, Lead] | None = None
        for lane, lead in shares.leads(lanes).items():
            for priority, line in self._lines[lane].items():
                head = line.head(self._there[lane][priority])
                if head is None:
                    continue
                rank = _rank(head, now, lead)
                if best is None or rank < best[0]:
                    best = (rank, head, lead)
        return None if best is None else (best[1], best[2])
