"""Which generation of an Agent or an Executor serves while the declared one is not healthy. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

TRY_AGAIN = timedelta(minutes=30)
"""So long a generation whose run could not be started is left alone."""


class Served(Protocol):
    """The part of an Agent's or Executor's status that tells of its generations."""

    @property
    def observed_generation(self) -> int: ...
    @property
    def last_good_generation(self) -> int: ...
    @property
    def failed_generation(self) -> int: ...
    @property
    def failed_at(self) -> datetime | None: ...
    @property
    def failed_message(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Trial:
    """How far the declared generation has come. ``last_good`` is what serves instead (0 is nothing), ``problem`` why
    its run could not be started ("" when none failed), ``until`` when that is forgotten."""

    last_good: int
    problem: str
    until: datetime | None


def trial(status: Served, generation: int, serving: int, ready: bool, now: datetime) -> Trial:
    """The standing of ``generation``. One that is new comes after what served until now, where that was Ready."""
    last_good = status.last_good_generation
    if status.observed_generation not in (0, generation):
        last_good = serving if ready and serving != generation else last_good
        return Trial(last_good, "", None)
    if status.failed_generation != generation or status.failed_at is None:
        return Trial(last_good, "", None)
    until = status.failed_at + TRY_AGAIN
    if now >= until:
        return Trial(last_good, "", None)
    return Trial(last_good, status.failed_message or "its run could not be started", until)


def fields(status: Served, generation: int, found: Trial) -> dict[str, object]:
    """The status fields that follow from the trial."""
    failed = bool(found.problem)
    return {
        "last_good_generation": found.last_good,
        "failed_generation": generation if failed else 0,
        "failed_at": status.failed_at if failed else None,
        "failed_message": status.failed_message if failed else "",
    }


def explain(declared: int, serving: int, problem: str, until: datetime | None) -> str:
    """The message of a condition: which generation serves, why, and what a person can do."""
    again = f"it is tried again at {until:%Y-%m-%dT%H:%M:%SZ}, or " if until is not None else ""
    return f"generation {declared} is not healthy: {problem}; generation {serving} serves; {again}commit a fix"[:1000]
