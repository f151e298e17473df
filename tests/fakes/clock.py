"""A clock that moves only when a test says so."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

T = TypeVar("T")

MONDAY = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
_PATIENCE = 1_000_000


class VirtualTimer:
    """See `controllers.runtime.clock.Timer`."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class VirtualClock:
    """A `controllers.runtime.clock.Clock` in virtual time: exact, and never slower than the code under test.

    ``await advance(seconds)`` moves time, firing each timer at its own moment and letting all tasks come to rest after
    each. ``await run(awaitable)`` moves time by itself, from timer to timer, until the awaitable is done. ``tick`` is
    `advance` for code without tasks. The monotonic origin is an odd number, so that nobody mistakes it for a duration.
    """

    def __init__(self, start: datetime = MONDAY, *, monotonic: float = 4_096.0) -> None:
        self._start = start
        self._origin = monotonic
        self._monotonic = monotonic
        self._timers: list[tuple[float, int, VirtualTimer]] = []
        self._numbers = itertools.count()

    # The Clock

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._monotonic - self._origin)

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)  # noqa: TID251 - yields, takes no time
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_at(self._monotonic + seconds, lambda: woken.done() or woken.set_result(None))
        try:
            await woken
        finally:
            timer.cancel()

    def call_at(self, when: float, callback: Callable[[], object]) -> VirtualTimer:
        timer = VirtualTimer(callback)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is not None and when <= self._monotonic:
            loop.call_soon(self._ring, timer)
        else:
            heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    # The test's side

    @property
    def elapsed(self) -> float:
        """Virtual seconds since this clock was made."""
        return self._monotonic - self._origin

    @property
    def pending(self) -> int:
        """Timers that still wait."""
        return sum(timer.callback is not None for _, _, timer in self._timers)

    def jump_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back; monotonic time does not notice."""
        self._start += timedelta(seconds=seconds)

    def next_timer(self) -> float | None:
        """The monotonic moment of the next timer, or None."""
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def tick(self, seconds: float) -> None:
        """Move time and fire timers, each at its moment, without giving tasks a turn."""
        end = self._monotonic + seconds
        while (when := self.next_timer()) is not None and when <= end:
            self._fire(when)
        self._monotonic = end

    async def settle(self) -> None:
        """Let every task run until all of them wait for time or for each other. Takes no virtual time."""
        loop = asyncio.get_running_loop()
        for _ in range(_PATIENCE):
            await asyncio.sleep(0)  # noqa: TID251 - yields, takes no time
            if not loop._ready:  # type: ignore[attr-defined]
                return
        raise AssertionError("the tasks do not come to rest: something runs again and again without waiting")

    async def advance(self, seconds: float) -> None:
        """Move time by `seconds`; tasks come to rest before, at every timer on the way, and after."""
        await self.settle()
        end = self._monotonic + seconds
        while (when := self.next_timer()) is not None and when <= end:
            self._fire(when)
            await self.settle()
        self._monotonic = end
        await self.settle()

    async def run(self, awaitable: Awaitable[T], *, limit_s: float = 1e9) -> T:
        """The result of `awaitable`, moving time from timer to timer until it is there. AssertionError when nothing
        is left that could ever finish it, or after `limit_s` virtual seconds."""
        task = asyncio.ensure_future(awaitable)
        end = self._monotonic + limit_s
        try:
            while True:
                await self.settle()
                if task.done():
                    return await task
                when = self.next_timer()
                if when is None:
                    raise AssertionError("nothing will ever happen again: every task waits, and no timer is set")
                if when > end:
                    raise AssertionError(f"not done after {limit_s:g} virtual seconds")
                self._fire(when)
        finally:
            task.cancel()

    def _fire(self, when: float) -> None:
        self._monotonic = max(self._monotonic, when)
        self._ring(heapq.heappop(self._timers)[2])

    def _ring(self, timer: VirtualTimer) -> None:
        callback, timer.callback = timer.callback, None
        if callback is not None:
            callback()
