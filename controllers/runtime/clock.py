"""The clock: the only module that reads the time or sleeps. Everything else is handed a `Clock`.

Two times, never mixed: `now` is wall time, for what people and the store see, and may jump in both directions;
`monotonic` only grows, for every delay and deadline inside the process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self


class Timer(Protocol):
    """A callback that waits for its moment."""

    def cancel(self) -> None:
        """Stop it. Harmless when it already ran or was cancelled."""
        ...


class Clock(Protocol):
    """Where time comes from. `sleep` and `call_at` need a running event loop and belong to its thread."""

    def now(self) -> datetime:
        """Wall time: aware, UTC. May jump either way when the machine's clock is set."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary origin; never falls, unaffected by wall time. Compare it only with itself."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Suspend for at least `seconds`. Zero or less yields to the event loop once."""
        ...

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` on the event loop once `monotonic()` is about `when`: perhaps a rounding error early, so
        a callback compares the time itself. A moment in the past means the next turn of the loop, never this one."""
        ...


class SystemClock:
    """The machine's clock."""

    monotonic = staticmethod(time.monotonic)

    def now(self) -> datetime:
        """See `Clock.now`."""
        return datetime.now(UTC)  # noqa: TID251 - the one place that may

    async def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        await asyncio.sleep(max(0.0, seconds))  # noqa: TID251 - the one place that may

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """See `Clock.call_at`."""
        return asyncio.get_running_loop().call_later(max(0.0, when - time.monotonic()), callback)


class Deadline:
    """``async with Deadline(clock, seconds):`` cancels its body when the time is up and then raises TimeoutError.

    `seconds` None sets no deadline. `expired` tells our own timeout from a TimeoutError that the body raised itself.
    A body that is cancelled from outside at the same time sees CancelledError: the stronger wish wins. The body may
    delay its end (a thread cannot be interrupted); the error then comes when it ends.
    """

    def __init__(self, clock: Clock, seconds: float | None) -> None:
        self._clock = clock
        self._seconds = seconds
        self._timer: Timer | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancels_before = 0
        self.expired = False

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a Deadline works inside a task only")
        self._task = task
        self._cancels_before = task.cancelling()
        if self._seconds is not None:
            self._timer = self._clock.call_at(self._clock.monotonic() + self._seconds, self._expire)
        return self

    def _expire(self) -> None:
        if self._task is not None:
            self.expired = True
            self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self._timer is not None:
            self._timer.cancel()
        if not self.expired or task is None:
            return
        # Our cancel is taken back; what is left over was asked for by somebody else and has to stay.
        others = task.uncancel() > self._cancels_before
        if kind is asyncio.CancelledError and not others:
            raise TimeoutError(f"not finished after {self._seconds:g} s") from error


async def wait_for_any(clock: Clock, seconds: float | None, *events: asyncio.Event) -> bool:
    """Wait until one of `events` is set, or for `seconds` (None: for ever). Returns whether one is set."""
    if not any(event.is_set() for event in events):
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            async with Deadline(clock, seconds):
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            pass
        finally:
            for wait in waits:
                wait.cancel()
    return any(event.is_set() for event in events)
