"""Work that repeats: polls, sweeps, and whatever a hint may start early."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from controllers.runtime.clock import Clock, wait_for_any
from controllers.runtime.lifecycle import Lifecycle


class Periodic:
    """Runs `work` at once and then about every `interval_s` seconds (counted from the end of one to the start of
    the next, give or take the share `jitter`, so that a fleet does not poll in step).

    Level-triggered: a `poke` during the work or before it makes one more round, however many there were. What
    `work` raises ends the component; its manager starts it again, with backoff.
    """

    def __init__(
        self,
        work: Callable[[], Awaitable[object]],
        *,
        clock: Clock,
        random: Random,
        interval_s: float,
        jitter: float = 0.1,
    ) -> None:
        if interval_s <= 0 or not 0 <= jitter < 1:
            raise ValueError("periodic work needs a positive interval and a jitter from 0 to below 1")
        self._work = work
        self._clock = clock
        self._random = random
        self._interval_s = interval_s
        self._jitter = jitter
        self._poked = asyncio.Event()

    def poke(self) -> None:
        """Do not wait for the next round: something is there. Call it on the event loop's thread."""
        self._poked.set()

    async def run(self, life: Lifecycle) -> None:
        """A component (`lifecycle.Run`); ready after the first round. Finishes a round that runs when it is stopped."""
        while not life.stopping.is_set():
            # Cleared before the work: a hint that comes while it reads may be news to it.
            self._poked.clear()
            await self._work()
            life.ready()
            wait_s = self._interval_s * (1 + self._jitter * (2 * self._random.random() - 1))
            await wait_for_any(self._clock, wait_s, life.stopping, self._poked)
