"""How many tool calls an agent may ask for: in a minute, of the same kind, and in one run. Built in; Budgets limit
further (``limits.toolCalls``)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schemas.loop import Asked

PER_MINUTE = 120
"""Calls of one session in one minute of the clock."""
SAME_CALLS = 20
SAME_MINUTES = 10
"""So many calls of a tool with the same arguments in so many minutes."""
INSISTING = 2 * SAME_CALLS
"""Who asks that often all the same goes around in circles: the mission is contained."""
PER_RUN = 5_000
"""Calls of one run."""
KNOWN = 32
"""Different calls that are known; the one whose window began first makes room."""


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


def count(asked: Asked, run: str, signature: str, minute: int) -> Count:
    """Take in that ``run`` asks leave for a call; ``signature`` is the same for the same tool and arguments. A clock
    that was set back stays in the minute it had reached."""
    minute = max(minute, asked.minute)
    in_minute = asked.in_minute + 1 if minute == asked.minute else 1
    calls = asked.calls + 1 if run == asked.run else 1
    began, times = asked.same.get(signature, (minute, 0))
    if minute - began >= SAME_MINUTES:
        began, times = minute, 0
    same = {known: seen for known, seen in asked.same.items() if known != signature and minute - seen[0] < SAME_MINUTES}
    while len(same) >= KNOWN:
        del same[min(same, key=lambda known: same[known])]
    same[signature] = (began, times + 1)
    made = Asked(run=run, calls=calls, minute=minute, in_minute=in_minute, same=same)
    excess = None
    if calls > PER_RUN:
        excess = Excess.RUN
    elif times + 1 > SAME_CALLS:
        excess = Excess.SAME_CALL
    elif in_minute > PER_MINUTE:
        excess = Excess.RATE
    return Count(made, times + 1, excess, times + 1 > INSISTING)
