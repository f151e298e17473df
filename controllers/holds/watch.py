"""The two things an engine keeps an eye on beside its store: ESTOP files, and the source while the store does not
answer. What they say counts at once where work is given out; here it is made to stop what runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from controllers.holds import effective
from controllers.holds.stops import Stops
from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock, wait_for_any
from controllers.runtime.lifecycle import Lifecycle
from decisions.holds import HoldFacts
from schemas.base import Key
from schemas.errors import RemitError, SourceUnreadable, StoreError
from schemas.hold import HoldMode, HoldScope
from schemas.resource import Actor, ActorKind
from store.contract import Store

log = logging.getLogger(__name__)

FILES_S = 0.2
"""How often the files are looked for: one or two looks at a folder."""
AGAIN_S = 1.0
"""How often programs are stopped while a stop stands: one may have been on its way."""
KEEP_S = 5.0
"""How often it is seen to that a file has its Hold."""
PROBE_S = 2.0
PATIENCE_S = 2.0
"""A store that gives no write transaction within this time is taken not to answer."""
ACTOR = Actor(ActorKind.SYSTEM, "controller:estop", "File")


class Programs(Protocol):
    """What can stop programs without a store."""

    async def stop_all(self, namespaces: frozenset[str] | None) -> int:
        """Stop every program (of these namespaces; None: of all); returns how many were told."""
        ...


def reach(holds: Iterable[HoldFacts]) -> frozenset[str] | None:
    """The namespaces that e-stops among ``holds`` stop whole; None for all of them. What is released already is left to
    the store to tell."""
    stops = [h for h in holds if h.spec.mode is HoldMode.STOP and h.spec.released is None]
    if any(h.spec.scope is HoldScope.GLOBAL for h in stops):
        return None
    return frozenset(h.key.namespace for h in stops if h.spec.scope is HoldScope.TENANT)


class FileWatch:
    """Looks for ESTOP files. ``blocking`` has threads of its own: a store that hangs must not hang this."""

    def __init__(self, store: Store, stops: Stops, programs: Programs, *, clock: Clock, blocking: Blocking) -> None:
        self._store = store
        self._stops = stops
        self._programs = programs
        self._clock = clock
        self._blocking = blocking
        self._due: dict[Key, float] = {}
        self._making: asyncio.Task[None] | None = None
        self._stopped_at = float("-inf")

    async def run(self, life: Lifecycle) -> None:
        """A component (`lifecycle.Run`)."""
        life.ready()
        while not life.stopping.is_set():
            await self.look()
            await wait_for_any(self._clock, FILES_S, life.stopping)

    async def look(self) -> None:
        """One look: stop programs, then make Holds of the files."""
        found = await self._blocking.run(self._stops.everywhere)
        if not found:
            self._due.clear()
            return
        now_s = self._clock.monotonic()
        if now_s - self._stopped_at >= AGAIN_S:
            self._stopped_at = now_s
            await self._stop(reach(found))
        fresh = [f for f in found if f.file and now_s >= self._due.get(f.key, now_s)]
        if fresh and (self._making is None or self._making.done()):
            # Beside the looks: a store that is locked takes its time to say so, and programs are stopped meanwhile.
            self._making = asyncio.create_task(self._adopt(fresh))

    async def _stop(self, namespaces: frozenset[str] | None) -> None:
        if namespaces is not None and not namespaces:
            return
        try:
            count = await self._programs.stop_all(namespaces)
        except RemitError as error:
            log.warning("programs cannot be told of the e-stop yet: %s", error)
            return
        if count:
            log.warning("e-stop: %d program(s) told to stop", count)

    async def _adopt(self, files: list[HoldFacts]) -> None:
        pause_s = KEEP_S
        try:
            await self._blocking.run(self._make)
        except StoreError as error:
            log.warning("an ESTOP file stands; its Hold cannot be written yet: %s", error)
            pause_s = AGAIN_S
        due = self._clock.monotonic() + pause_s
        self._due |= dict.fromkeys((f.key for f in files), due)

    def _make(self) -> None:
        with self._store.transaction(ACTOR) as tx:
            # Looked for again: a release that came first took the file away, and nobody would release the Hold again.
            effective.adopt(tx, self._stops.of_files())


class SourceWatch:
    """Reads the source for Holds while the store does not answer, so that a commit stops work all the same.

    ``read`` returns the Holds that the source declares now; it blocks and raises SourceUnreadable. What it found counts
    until the store has it, or the source no longer declares it."""

    def __init__(
        self,
        store: Store,
        stops: Stops,
        read: Callable[[], list[HoldFacts]],
        *,
        interval_s: float,
        clock: Clock,
        blocking: Blocking,
    ) -> None:
        self._store = store
        self._stops = stops
        self._read = read
        self._interval_s = interval_s
        self._clock = clock
        self._blocking = blocking
        self._probing: asyncio.Task[None] | None = None

    async def run(self, life: Lifecycle) -> None:
        """A component (`lifecycle.Run`)."""
        life.ready()
        read_at = float("-inf")
        while not await wait_for_any(self._clock, PROBE_S, life.stopping):
            answers = await self._answers()
            if answers and not self._stops.committed:
                continue
            now_s = self._clock.monotonic()
            if now_s - read_at >= self._interval_s:
                read_at = now_s
                await self._look()

    async def _answers(self) -> bool:
        """Whether the store takes a transaction in time. Those Holds that it has by now are forgotten there."""
        if self._probing is None:
            self._probing = asyncio.create_task(self._blocking.run(self._probe))
        probing, done = self._probing, asyncio.Event()
        probing.add_done_callback(lambda _: done.set())
        if not await wait_for_any(self._clock, PATIENCE_S, done):
            return False  # it goes on, and is asked for again
        self._probing = None
        try:
            await probing
        except StoreError:
            return False
        return True

    def _probe(self) -> None:
        with self._store.transaction(ACTOR) as tx:
            waiting = self._stops.committed
            if waiting:
                there = tx.get_many([hold.key for hold in waiting])
                left = [h for h in waiting if h.key not in there or effective.facts_of(there[h.key]).spec != h.spec]
                self._stops.commit(left)

    async def _look(self) -> None:
        try:
            found = await self._blocking.run(self._read)
        except SourceUnreadable as error:
            log.info("the store does not answer, and the source cannot be read for Holds: %s", error)
            return
        new = [hold for hold in found if hold not in self._stops.committed]
        for hold in new:
            log.warning("the store does not answer; %s of the source counts: %s", hold.key.short, hold.spec.reason)
        self._stops.commit(found)
