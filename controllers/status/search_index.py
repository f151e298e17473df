"""Keeps the index of search behind the store: a little later, in transactions of its own, so that no other writer pays
for it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock, wait_for_any
from controllers.runtime.lifecycle import Lifecycle
from schemas.errors import StoreError
from store.contract import Store

log = logging.getLogger(__name__)

WINDOW_S = 1.0
"""Commits of this time are taken in together; at the start, the first work goes ahead of what was left over."""
POLL_S = 10.0
"""What other processes wrote is taken in after so long, at most."""
RETRY_S = 5.0
BATCH = 50
"""Small, so that the lock is held for some milliseconds only."""
BREATH_S = 0.02
"""Between two batches, so that other writers get the lock."""


class SearchIndex:
    """A component (``lifecycle.Run``). Any number of engines may run it on one store."""

    def __init__(self, store: Store, *, clock: Clock, blocking: Blocking) -> None:
        self._store = store
        self._clock = clock
        self._blocking = blocking

    async def run(self, life: Lifecycle) -> None:
        """Until it is to stop."""
        committed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_commit(_: int) -> None:
            with suppress(RuntimeError):  # the loop was closed in this moment
                loop.call_soon_threadsafe(committed.set)

        unsubscribe = self._store.subscribe(on_commit)
        life.ready()
        try:
            while not await wait_for_any(self._clock, WINDOW_S, life.stopping):
                committed.clear()
                pause_s = POLL_S
                try:
                    while await self._blocking.run(self._store.index_search, BATCH):
                        if await wait_for_any(self._clock, BREATH_S, life.stopping):
                            return
                except StoreError as error:
                    log.warning("the index of search waits: %s", error)
                    pause_s = RETRY_S
                await wait_for_any(self._clock, pause_s, committed, life.stopping)
        finally:
            unsubscribe()
