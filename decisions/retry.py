"""When the next attempt is due: exponential backoff whose jitter is derived from the attempt, so that it can be
computed again after a crash and comes out the same."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from schemas.mission import Backoff


def pause(backoff: Backoff, failures: int, seed: str) -> timedelta:
    """The pause after ``failures`` (>= 1) failed attempts. ``seed`` names the work, so that two missions do not wake
    together."""
    initial, cap = backoff.initial.total_seconds(), backoff.max.total_seconds()
    base = initial
    for _ in range(failures - 1):
        if base >= cap or base == 0:
            break
        base *= 2
    word = hashlib.sha256(f"{seed}/{failures}".encode()).digest()
    share = int.from_bytes(word[:8], "big") / 2**64  # 0 <= share < 1
    return timedelta(seconds=min(base, cap) * (1 + backoff.jitter * (2 * share - 1)))


def next_attempt(backoff: Backoff, failures: int, seed: str, ended_at: datetime) -> datetime:
    """When the attempt after ``failures`` failed ones is due."""
    return ended_at + pause(backoff, failures, seed)
