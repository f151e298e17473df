"""Which mission is next: highest effective priority, then longest ready, then by name. Deterministic."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.base import Key

AGE_STEP = timedelta(minutes=10)
"""A waiting mission gains one point of priority for each such step, so that nothing starves: 100 points in 17 h."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A mission that could run but for its turn."""

    key: Key
    priority: int
    ready_since: datetime


def effective_priority(candidate: Candidate, now: datetime) -> int:
    """Declared priority plus the age bonus; never below the declared one."""
    return candidate.priority + max(0, (now - candidate.ready_since) // AGE_STEP)


def order(candidates: Iterable[Candidate], now: datetime) -> list[Candidate]:
    """The order in which free places are given out. The same facts give the same order."""
    return sorted(candidates, key=lambda c: _rank(c, now))


def first(candidates: Iterable[Candidate], now: datetime, count: int) -> list[Candidate]:
    """The first ``count`` of ``order``, without ordering the rest."""
    return heapq.nsmallest(count, candidates, key=lambda c: _rank(c, now))


def _rank(candidate: Candidate, now: datetime) -> tuple[int, datetime, Key]:
    return -effective_priority(candidate, now), candidate.ready_since, candidate.key
