"""How many tool calls an agent may ask for: in a minute, of the same kind, and in one run. Built in; Budgets limit
further (``limits.toolCalls``)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schemas.loop import Asked

KNOWN = 32
"""Different calls that are known; the one whose window began first makes room."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """The numbers. ``per_minute`` counts calls of one session in one minute of the clock; ``same_calls`` those of a
    tool with the same arguments in ``same_minutes``; who asks ``insisting`` times all the same goes around in
    circles."""

    per_minute: int = 120
    same_calls: int = 20
    same_minutes: int = 10
    insisting: int = 40
    per_run: int = 5_000


DEFAULT = CallLimits()


class Excess(StrEnum):
    """Which limit a call is over."""

    RATE = "Rate"
    SAME_CALL = "SameCall"
    RUN = "Run"


@dataclass(frozen=True, slots=True)
class Count:
    """The counts with this call in them. ``excess`` is None for a call within the limits; ``insisting`` asks for
    containment; ``same`` is how often this call was asked for in its window."""

    asked: Asked
    same: int
    excess: Excess | None = None
    insisting: bool = False


def count(asked: Asked, run: str, signature: str, minute: int, limits: CallLimits = DEFAULT) -> Count:
    """Take in that ``run`` asks leave for a call; ``signature`` is the same for the same tool and arguments. A clock
    that was set back stays in the minute it had reached."""
    minute = max(minute, asked.minute)
    in_minute = asked.in_minute + 1 if minute == asked.minute else 1
    calls = asked.calls + 1 if run == asked.run else 1
    began, times = asked.same.get(signature, (minute, 0))
    if minute - began >= limits.same_minutes:
        began, times = minute, 0
    same = {
        known: seen
        for known, seen in asked.same.items()
        if known != signature and minute - seen[0] < limits.same_minutes
    }
    while len(same) >= KNOWN:
        del same[min(same, key=lambda known: same[known])]
    same[signature] = (began, times + 1)
    made = Asked(run=run, calls=calls, minute=minute, in_minute=in_minute, same=same)
    excess = None
    if calls > limits.per_run:
        excess = Excess.RUN
    elif times + 1 > limits.same_calls:
        excess = Excess.SAME_CALL
    elif in_minute > limits.per_minute:
        excess = Excess.RATE
    return Count(made, times + 1, excess, times + 1 > limits.insisting)
