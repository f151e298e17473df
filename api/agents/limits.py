"""How much one agent, and all of them together, may ask for at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from api.crowd import LoadLimit as LoadLimit
from api.problems import Problem
from controllers.runs import artifacts

_BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class AgentLimits:
    """Bounds of the agent port. Bodies are in bytes; ``*_s`` is the time that sending one may take."""

    requests_per_s: float = 20.0  # of one run, in the long run
    burst: int = 100  # of one run, at once
    in_flight: int = 32  # requests of one run that are being answered, beside its long polls
    polls: int = 4  # long polls of one run
    worker_polls: int = 4  # long polls of one worker
    all_in_flight: int = 4_000  # requests of all runs, long polls included
    small_body: int = 1024 * 1024
    small_body_s: float = 10.0
    large_body: int = 4 * artifacts.LARGEST // 3 + 1024 * 1024  # the largest artifact as base64, and what is around it
    large_body_s: float = 60.0
    large_bodies: int = 4  # large bodies that are in memory at a time
    completions: int = 2  # completions that are checked at a time


@dataclass(slots=True)
class _Bucket:
    tokens: float
    since: float


class TokenBuckets:
    """One token bucket per run: ``burst`` requests at once, refilled at ``rate`` a second. Belongs to one thread."""

    def __init__(self, rate: float, burst: int, monotonic: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._monotonic = monotonic
        self._buckets: dict[str, _Bucket] = {}

    def take(self, run_uid: str) -> float:
        """Take one request out; returns 0.0, or the seconds until there is one."""
        now = self._monotonic()
        bucket = self._buckets.get(run_uid)
        if bucket is None:
            if len(self._buckets) >= _BUCKETS:
                self._forget(now)
            bucket = self._buckets[run_uid] = _Bucket(self._burst, now)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.since) * self._rate)
        bucket.since = now
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / self._rate
        bucket.tokens -= 1
        return 0.0

    def _forget(self, now: float) -> None:
        """Drop the buckets that are full again: a new one is the same."""
        full_after_s = self._burst / self._rate
        self._buckets = {uid: bucket for uid, bucket in self._buckets.items() if now - bucket.since < full_after_s}


class Places:
    """Counts who is inside; at most ``most`` of one run. Belongs to one thread."""

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._inside: Counter[str] = Counter()

    @contextmanager
    def taken(self, run_uid: str) -> Iterator[None]:
        """Be inside for the block. Raises Problem (429)."""
        if not self.enter(run_uid):
            raise Problem(
                429, "TooManyAtOnce", f"{self._most} {self._what} of this run are open already", retry_after_s=1
            )
        try:
            yield
        finally:
            self.leave(run_uid)

    def enter(self, run_uid: str) -> bool:
        """Be inside until ``leave``; False when there is no place."""
        if self._inside[run_uid] >= self._most:
            return False
        self._inside[run_uid] += 1
        return True

    def leave(self, run_uid: str) -> None:
        """After ``enter``."""
        self._inside[run_uid] -= 1
        if not self._inside[run_uid]:
            del self._inside[run_uid]
