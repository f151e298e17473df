"""The supervisor's event loop: one thread, file descriptors and timers, and nothing that blocks."""

from __future__ import annotations

import heapq
import itertools
import selectors
from collections.abc import Callable

Callback = Callable[[], None]
READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class Timer:
    """A call in the future; ``callback`` is None once it was made or canceled. ``cancel`` is idempotent."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """Calls back when a descriptor is ready or a time has come.

    ``monotonic`` gives seconds that never go back. ``on_error`` is told of an exception that a callback let escape;
    the loop goes on, because the other runs must not pay for it.
    """

    def __init__(self, monotonic: Callable[[], float], on_error: Callable[[BaseException], None]) -> None:
        self.now = monotonic
        self._on_error = on_error
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def watch(self, fd: int, events: int, callback: Callback) -> None:
        """Call back whenever ``fd`` is ready; replaces an earlier watch of it."""
        if fd in self._selector.get_map():
            self._selector.modify(fd, events, callback)
        else:
            self._selector.register(fd, events, callback)

    def unwatch(self, fd: int) -> None:
        """Forget ``fd``; before it is closed. Idempotent."""
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def call_later(self, delay_s: float, callback: Callback) -> Timer:
        """Call back once, after ``delay_s`` seconds."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (self.now() + delay_s, next(self._order), timer))
        return timer

    def turn(self) -> None:
        """Wait for the next thing and do everything that is due."""
        for key, _ in self._selector.select(self._wait_s()):
            # An earlier callback of this turn may have closed it.
            if self._selector.get_map().get(key.fd) is key:
                self._call(key.data)
        now = self.now()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is not None:
                self._call(callback)

    def close(self) -> None:
        """Release the selector."""
        self._selector.close()

    def _wait_s(self) -> float | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - self.now()) if self._timers else None

    def _call(self, callback: Callback) -> None:
        try:
            callback()
        except Exception as error:  # noqa: BLE001 - reported, see the class docstring
            self._on_error(error)
