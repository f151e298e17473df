"""The time that a command sees. Tests give it theirs; otherwise it is the clock of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime

Now = Callable[[], datetime]
_clock: ContextVar[Now | None] = ContextVar("clock", default=None)


def now() -> datetime:
    """The moment it is: what ages are counted from, and what acts are dated with."""
    return clock()()


def clock() -> Now:
    """What tells the time."""
    given = _clock.get()
    if given is not None:
        return given
    from controllers.runtime.clock import SystemClock  # imports asyncio, which most verbs do not need

    return SystemClock().now


@contextmanager
def told_by(given: Now | None) -> Iterator[None]:
    """Let ``given`` tell the time for the block; None is this machine's clock."""
    token = _clock.set(given)
    try:
        yield
    finally:
        _clock.reset(token)
