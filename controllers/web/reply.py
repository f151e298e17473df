"""What became of one request."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Fate(StrEnum):
    """What became of a request."""

    ANSWERED = "Answered"  # there is a whole answer
    NOT_SENT = "NotSent"  # the server certainly got nothing of it
    REFUSED = "Refused"  # nor may it: the address is one that is not reached
    UNCERTAIN = "Uncertain"  # it may have got it; no answer that can be read came back


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may take. ``allow_private``: whether private and loopback addresses may be reached."""

    timeout_s: float
    max_answer: int
    allow_private: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """How a request went. ``status`` and what follows hold for ANSWERED only; ``error`` is "" there."""

    fate: Fate
    latency_ms: int
    error: str = ""
    status: int | None = None
    data: bytes = b""
    location: str = ""
    retry_after_s: float | None = None
