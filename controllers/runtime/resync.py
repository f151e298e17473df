"""The insurance of a level-triggered engine: list every key at the start, and again from time to time.

The first listing is the recovery from a crash: the queue was memory, the store has everything. The later ones heal
what a defect, a lost notification or a jump of the wall clock made the engine miss.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable
from random import Random
from typing import Generic, TypeVar

from controllers.runtime.clock import Clock, wait_for_any
from controllers.runtime.lanes import Priority
from controllers.runtime.lifecycle import Lifecycle
from controllers.runtime.workqueue import WorkQueue

K = TypeVar("K", bound=Hashable)

log = logging.getLogger(__name__)

INTERVAL_S = 600.0
SPREAD = 0.5
_STEP_S = 1.0


class Resync(Generic[K]):
    """Adds all keys that `list_keys` names: at the start all at once, so that the queue hands out an e-stop ahead of a
    cold start of thousands; then every `interval_s` seconds in random order, spread evenly over the share
    `spread` of the interval, so that insurance never comes as a burst.

    At the start, keys for which `later` holds are added only when `hold(stopping)` has returned: thousands that rest
    let the first work go ahead of them. A key that is wanted meanwhile is added by whoever wants it.

    `list_keys` gives (key, priority) pairs, RESYNC for all but the few that cannot wait. Later rounds use RESYNC for
    all: what is urgent was added when it happened. Reminders only: a key in backoff or parked is left alone.
    """

    def __init__(
        self,
        queue: WorkQueue[K],
        list_keys: Callable[[], Awaitable[Iterable[tuple[K, Priority]]]],
        *,
        clock: Clock,
        random: Random,
        interval_s: float = INTERVAL_S,
        spread: float = SPREAD,
        later: Callable[[K], bool] = lambda key: False,
        hold: Callable[[asyncio.Event], Awaitable[object]] | None = None,
    ) -> None:
        if interval_s <= 0 or not 0 <= spread <= 1:
            raise ValueError("a resync needs a positive interval and a spread between 0 and 1")
        self._queue = queue
        self._list_keys = list_keys
        self._clock = clock
        self._random = random
        self._interval_s = interval_s
        self._spread_s = interval_s * spread
        self._later = later
        self._hold = hold
        self.rounds = 0

    async def run(self, life: Lifecycle) -> None:
        """A component (`lifecycle.Run`); ready once the first listing is in the queue. What `list_keys` raises ends
        it; its manager starts it again, which lists at once."""
        # All in one turn of the loop: no worker takes a key before the queue knows which one is urgent.
        waiting = []
        for key, priority in await self._list_keys():
            if self._hold is not None and priority is Priority.RESYNC and self._later(key):
                waiting.append(key)
            else:
                self._queue.add(key, priority, fresh=False)
        life.ready()
        start = self._clock.monotonic()
        if self._hold is not None and waiting:
            await self._hold(life.stopping)
            for key in waiting:
                self._queue.add(key, Priority.RESYNC, fresh=False)
        self.rounds += 1
        # From start to start; a machine that slept through several rounds makes up for one.
        while not await wait_for_any(self._clock, start + self._interval_s - self._clock.monotonic(), life.stopping):
            start = self._clock.monotonic()
            await self._round(life)

    async def _round(self, life: Lifecycle) -> None:
        keys = [key for key, _ in await self._list_keys()]
        self._random.shuffle(keys)
        steps = max(1, int(self._spread_s / _STEP_S))
        done = 0
        for step in range(1, steps + 1):
            upto = len(keys) * step // steps
            for key in keys[done:upto]:
                self._queue.add(key, Priority.RESYNC, fresh=False)
            done = upto
            if done == len(keys) or await wait_for_any(self._clock, self._spread_s / steps, life.stopping):
                break
        self.rounds += 1
        log.debug("resync round %d: %d keys", self.rounds, len(keys))
