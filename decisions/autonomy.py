"""How far a session goes by itself: so many messages in a row without one from a person, with a pause between them.

A message is autonomous unless it is the first answer to a person's latest message. A person's message starts the count
anew and makes everything that was still to go out void.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from schemas.policy import AutonomyLimits


@dataclass(frozen=True, slots=True)
class Count:
    """How a session stands. ``queued`` are autonomous messages that wait for their turn; ``owed`` is whether a person's
    latest message was not answered yet."""

    consecutive: int = 0
    queued: int = 0
    owed: bool = False
    cooldown_until: datetime | None = None


class Admission(StrEnum):
    """What becomes of a message when it is said."""

    REPLY = "Reply"  # answers a person: it goes out at once, and does not count
    QUEUED = "Queued"  # autonomous: it takes its turn
    HARD_CAP = "HardCap"  # autonomous, and too many already: it is noted, and never goes out


def admit(count: Count, limits: AutonomyLimits, *, answers_person: bool) -> tuple[Count, Admission]:
    """An agent says something. ``answers_person`` is whether it names the person's latest message as what it answers.
    With messages in the queue nothing may go past them: it is one more in the queue."""
    if answers_person and count.owed and not count.queued:
        return replace(count, owed=False), Admission.REPLY
    if count.consecutive + count.queued >= limits.max_consecutive:
        return count, Admission.HARD_CAP
    return replace(count, queued=count.queued + 1), Admission.QUEUED


def next_due(count: Count, now: datetime) -> datetime | None:
    """When the first in the queue may go out; None when there is none."""
    if not count.queued:
        return None
    return max(now, count.cooldown_until) if count.cooldown_until is not None else now


def sent(count: Count, limits: AutonomyLimits, now: datetime) -> Count:
    """The first in the queue went out."""
    return replace(
        count, consecutive=count.consecutive + 1, queued=count.queued - 1, cooldown_until=now + limits.cooldown
    )


def person_spoke(count: Count) -> Count:
    """A person said something: the count begins anew and the queue is void. The pause after the last autonomous message
    stays; an answer does not wait for it."""
    return Count(owed=True, cooldown_until=count.cooldown_until)
