"""The one reader of the store on behalf of all who follow it: at most one read in 40 ms, none while nobody follows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from api.read.answers import Reader
from api.read.engine import Clock
from api.stream.ring import Ring
from schemas.errors import StoreError
from store.contract import Change, Event, Op, Snapshot

log = logging.getLogger(__name__)

WINDOW_S = 0.04
POLL_S = 0.5
_PAUSE_S = 0.01
"""At least that long other things are done between two reads, however long one takes."""
RING = 2_000
"""Changes that are kept for those who follow; who is further behind reads the store, or starts anew."""
_BATCH = 1_000


@dataclass(slots=True)
class Changed:
    """A change of an object. ``document`` is None for one that is gone; ``rendered`` keeps what was made of it, by
    form, so that each form is made once."""

    change: Change
    document: dict[str, Any] | None
    rendered: dict[object, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Logged:
    """A row of the log."""

    event: Event
    rendered: dict[object, bytes] = field(default_factory=dict)


def changes(snapshot: Snapshot, after: int, document: Callable[[Any], dict[str, Any]]) -> list[tuple[int, Changed]]:
    """The latest change of each object after a version, oldest first, at most a batch."""
    found = snapshot.changes_since(after, limit=_BATCH)
    there = snapshot.get_many(change.key for change in found if change.op is Op.PUT)
    made = []
    for change in found:
        resource = there.get(change.key) if change.op is Op.PUT else None
        made.append((change.resource_version, Changed(change, None if resource is None else document(resource))))
    return made


class Follower:
    """Follows the objects and the log for as long as somebody wants it. ``start`` and ``stop`` on the event loop;
    ``close`` lets everybody go."""

    def __init__(
        self, reader: Reader, clock: Clock, document: Callable[[Any], dict[str, Any]], *, ring: int = RING
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._document = document
        self.objects: Ring[Changed] = Ring(ring)
        self.log: Ring[Logged] = Ring(ring)
        self.closing = asyncio.Event()
        self._wanted = asyncio.Event()
        self._committed = asyncio.Event()
        self._begin = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin, also again after ``stop``."""
        self.closing.clear()
        loop = asyncio.get_running_loop()

        def committed(_: int) -> None:
            with suppress(RuntimeError):  # the loop was closed in this moment
                loop.call_soon_threadsafe(self._committed.set)

        self._unsubscribe = self._reader.store.subscribe(committed)
        self._task = asyncio.create_task(self._run(), name="read-api-follower")

    def close(self) -> None:
        """Let everybody who follows go, until ``start``. Idempotent."""
        self.closing.set()
        self.objects.wake()
        self.log.wake()

    async def stop(self) -> None:
        """``close``, and end."""
        self.close()
        self._unsubscribe()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    @asynccontextmanager
    async def following_objects(self) -> AsyncIterator[Ring[Changed]]:
        """The ring of objects, complete from a version that lies before the block. Raises StoreError."""
        async with self._following(self.objects, lambda snapshot: snapshot.latest_version()):
            yield self.objects

    @asynccontextmanager
    async def following_log(self) -> AsyncIterator[Ring[Logged]]:
        """The ring of the log, likewise. Raises StoreError."""
        async with self._following(self.log, head_of_log):
            yield self.log

    @asynccontextmanager
    async def _following(self, ring: Ring[Any], head: Callable[[Snapshot], int]) -> AsyncIterator[None]:
        async with self._begin:
            if not ring.followers:
                ring.restart(await self._reader.read(head))
            ring.followers += 1
        self._wanted.set()
        try:
            yield
        finally:
            ring.followers -= 1
            if not self.objects.followers and not self.log.followers:
                self._wanted.clear()

    async def _run(self) -> None:
        while not self.closing.is_set():
            await self._wanted.wait()
            await self._news()
            began = self._clock.monotonic()
            self._committed.clear()
            try:
                # What is read after the clearing covers every commit before it.
                found, rows = await self._reader.read(self._read)
            except StoreError:
                await self._clock.sleep(POLL_S)
                continue
            except Exception:
                log.exception("what changed cannot be read")
                await self._clock.sleep(POLL_S)
                continue
            if found:
                self.objects.extend(found, found[-1][0])
            if rows:
                self.log.extend(rows, rows[-1][0])
            await self._clock.sleep(max(WINDOW_S + began - self._clock.monotonic(), _PAUSE_S))

    async def _news(self) -> None:
        """Until this process commits, or for half a second: others may have."""
        tasks = [asyncio.ensure_future(self._committed.wait()), asyncio.ensure_future(self._clock.sleep(POLL_S))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    def _read(self, snapshot: Snapshot) -> tuple[list[tuple[int, Changed]], list[tuple[int, Logged]]]:
        found: list[tuple[int, Changed]] = []
        rows: list[tuple[int, Logged]] = []
        if self.objects.followers:
            found = changes(snapshot, self.objects.head, self._document)
        if self.log.followers:
            rows = [(e.seq, Logged(e)) for e in snapshot.events(after=self.log.head, limit=_BATCH)]
        if len(found) == _BATCH or len(rows) == _BATCH:
            self._committed.set()  # there may be more
        return found, rows


def head_of_log(snapshot: Snapshot) -> int:
    """The number of the newest row; 0 in an empty log."""
    newest = snapshot.events(limit=1, newest_first=True)
    return newest[0].seq if newest else 0
