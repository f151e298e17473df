"""What a pass answers, and what follows from it for its key. Four ways:

1. Finished. `Done`: rests until something wakes it. `Waiting` is the same, said as an error: what it waits for wakes
   it. Both forget the backoff.
2. Look again at a time. `RequeueAfter`, `RequeueAt`: runs again then; the backoff is forgotten.
3. Failed. `Retry`, and every `RemitError` not named here: the failure is counted, the key runs again after its backoff
   (or after `Retry.after`). `Conflict` and `AlreadyExists` try again at once a few times before they count. A pass
   that overstays its timeout, and any foreign exception (recovered, counted as a panic), fail the same way.
4. Parked. `Terminal`, `Stalled`, `InvalidSpec`: no retry, no resync, nothing but a real change runs it again.

A real change (a new generation, dependency or revision) that arrives at any moment supersedes all of this: the key
runs at once, with its failures forgotten.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar

from schemas import errors

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing to do until something wakes the key."""


@dataclass(frozen=True, slots=True)
class RequeueAfter:
    """Look again in `seconds`: finite, not negative."""

    seconds: float

    def __post_init__(self) -> None:
        if not 0 <= self.seconds < math.inf:
            raise ValueError(f"RequeueAfter takes a finite number of seconds from 0, not {self.seconds}")


@dataclass(frozen=True, slots=True)
class RequeueAt:
    """Look again at `when` (aware wall time); a moment that has passed means at once.

    The wait itself is counted on the monotonic clock: a wall clock that is set meanwhile makes the wake-up early or
    late, so a reconciler compares the time again, and a deadline that matters has a timer in the store as well.
    """

    when: datetime

    def __post_init__(self) -> None:
        if self.when.tzinfo is None:
            raise ValueError("RequeueAt takes a time with a zone")


Result = Done | RequeueAfter | RequeueAt

DONE = Done()


class Verdict(StrEnum):
    """How a pass ended. The values are metric labels."""

    DONE = "done"
    REQUEUED = "requeued"
    WAITING = "waiting"
    RETRY = "retry"
    CONFLICT = "conflict"
    TIMEOUT = "timeout"
    PANIC = "panic"
    PARKED = "parked"


@dataclass(frozen=True, slots=True)
class Outcome(Generic[K]):
    """One finished pass. `error` is None for DONE and REQUEUED. `after_s` is when the key runs again, in seconds
    from now; None when only a wake-up runs it. A change that came meanwhile may run it sooner."""

    key: K
    verdict: Verdict
    duration_s: float
    error: BaseException | None = None
    after_s: float | None = None


def verdict_of(error: BaseException) -> Verdict:
    """What an error that left a pass means for its key. The class decides, nothing else."""
    match error:
        case errors.Waiting():
            return Verdict.WAITING
        case errors.Stalled() | errors.Terminal() | errors.InvalidSpec():
            return Verdict.PARKED
        case errors.Conflict() | errors.AlreadyExists():
            return Verdict.CONFLICT
        case errors.RemitError():
            return Verdict.RETRY
        case _:
            return Verdict.PANIC
