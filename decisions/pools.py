"""The pool of a Provider: how many more runs may use it now, and why no more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from decisions import retry
from schemas.base import Key
from schemas.mission import Backoff
from schemas.provider import MinuteUse, ProviderReason, ProviderSpec, ProviderStatus

UNNAMED = "default"
"""Provider of agents whose model names none."""
LONGEST = timedelta(hours=1)
"""What a provider asks to be left alone for counts up to that: an agent reports it, and its word stops others."""
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """A pool as it is. ``declared`` is False where nobody declared the Provider: then the built-in defaults hold."""

    key: Key
    spec: ProviderSpec
    status: ProviderStatus
    in_use: int
    declared: bool = True
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """``free`` slots (0 while it pauses). Where there are none: why, until when if it ends by itself, and what a person
    can do."""

    free: int
    reason: ProviderReason
    message: str = ""
    until: datetime | None = None


def standing(pool: PoolFacts, now: datetime) -> Standing:
    """Whether a run may use it now."""
    name, spec, status = pool.key.short, pool.spec, pool.status
    if spec.suspend:
        return Standing(0, ProviderReason.SUSPENDED, f"{name} has spec.suspend: set it to false to go on")
    # A clock that was set back does not make a pause longer than one can be.
    if status.backoff_until is not None and now < status.backoff_until <= now + max(LONGEST, 2 * spec.backoff.max):
        why = f"{name} said that it is overloaded: {status.last_error}" if status.last_error else f"{name} backs off"
        return Standing(0, ProviderReason.BACKING_OFF, why, status.backoff_until)
    limited = _limited(pool, now)
    if limited is not None:
        return limited
    free = max(0, spec.max_concurrency - pool.in_use)
    if free:
        return Standing(free, ProviderReason.RECONCILED)
    more = "maxConcurrency of the Provider sets how many" if pool.declared else f"declare {name} to set how many"
    return Standing(0, ProviderReason.RECONCILED, f"all {spec.max_concurrency} slots of {name} are taken; {more}")


def _limited(pool: PoolFacts, now: datetime) -> Standing | None:
    """Whether this minute's requests or tokens are used up."""
    limit, used = pool.spec.rate_limit, pool.status.minute
    used = used if used is not None and used.began <= now < used.began + MINUTE else None
    for name, most, count in (
        ("requests", limit.requests_per_minute, used.requests if used is not None else 0),
        ("tokens", limit.tokens_per_minute, used.tokens if used is not None else 0),
    ):
        if most is not None and count >= most:
            until = used.began + MINUTE if used is not None else None
            text = f"{pool.key.short} allows {most:,} {name} in a minute, and they are used up"
            return Standing(0, ProviderReason.RATE_LIMITED, text, until)
    return None


def used(minute: MinuteUse | None, now: datetime, requests: int, tokens: int) -> MinuteUse:
    """The count of the current minute with more in it; a minute begins with the first use after the last one."""
    if minute is None or not minute.began <= now < minute.began + MINUTE:
        minute = MinuteUse(began=now)
    return minute.model_copy(update={"requests": minute.requests + requests, "tokens": minute.tokens + tokens})


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause of everybody who uses the pool: until when, and how many such answers it had in a row."""

    until: datetime
    streak: int


def pause(backoff: Backoff, status: ProviderStatus, seed: str, after: timedelta | None, now: datetime) -> Pause:
    """The pause that follows when the provider said that it is overloaded. Answers of runs that were at it together
    are one: while it pauses, only a later ``after`` (its Retry-After) moves the end."""
    wanted = now + min(after, LONGEST) if after is not None else None
    until = status.backoff_until
    if until is not None and now < until:
        return Pause(max(until, wanted) if wanted is not None else until, status.streak)
    streak = 1 if calm(backoff, status, now) else status.streak + 1
    own = now + retry.pause(backoff, streak, seed)
    return Pause(max(own, wanted) if wanted is not None else own, streak)


def calm(backoff: Backoff, status: ProviderStatus, now: datetime) -> bool:
    """Whether its last pause ended longer ago than the longest one takes: the next one is a first one again."""
    ended = status.backoff_until or status.backoff_ended
    return ended is None or now - ended > max(backoff.max, timedelta(seconds=1))
