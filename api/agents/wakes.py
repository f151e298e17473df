"""Waking long polls: by commits of this process at once, by those of others within half a second."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock, wait_for_any
from schemas.errors import StoreError
from store.contract import Store

log = logging.getLogger(__name__)

POLL_S = 0.5
_BATCH = 1000
_FOR_EVERYBODY = "Hold"
OFFERS = "offers"
"""Stands for a run's uid: woken by the change of any run, for those who wait for one that is offered."""
"""A Hold says by labels whom it concerns: everybody looks."""


@dataclass(frozen=True, slots=True)
class _News:
    cursor: int
    uids: frozenset[str] = field(default_factory=frozenset)
    everybody: bool = False


class Wakes:
    """Tells those who wait for a run that it, or a Hold, has changed. Nothing is read while nobody waits, and one read
    serves all who wait. Belongs to one event loop."""

    def __init__(self, store: Store, blocking: Blocking, clock: Clock, *, poll_s: float = POLL_S) -> None:
        self._store = store
        self._blocking = blocking
        self._clock = clock
        self._poll_s = poll_s
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._wanted = asyncio.Event()
        self._committed = asyncio.Event()
        self._cursor: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self.closing = asyncio.Event()

    @property
    def count(self) -> int:
        """How many wait."""
        return len({id(event) for events in self._waiting.values() for event in events})

    def start(self) -> None:
        """Begin, also again after ``stop``; on the event loop."""
        self.closing.clear()
        loop = asyncio.get_running_loop()

        def committed(_: int) -> None:
            with suppress(RuntimeError):  # the loop was closed in this moment
                loop.call_soon_threadsafe(self._committed.set)

        self._unsubscribe = self._store.subscribe(committed)
        self._task = asyncio.create_task(self._run(), name="agent-api-wakes")

    def close(self) -> None:
        """Let everybody who waits go, at once and until ``start``. Idempotent; on the event loop."""
        self.closing.set()

    async def stop(self) -> None:
        """``close``, and end."""
        self.close()
        self._unsubscribe()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    @asynccontextmanager
    async def waiting(self, *uids: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever one of these objects, such as the run, or a Hold has changed, from the moment
        that the block begins. Clear it, look, then wait. Raises StoreUnavailable."""
        news = asyncio.Event()
        for uid in uids:
            self._waiting[uid].add(news)
        try:
            if self._cursor is None:
                cursor = await self._blocking.run(self._store.cursor)
                # Somebody else may have set it meanwhile; what is older covers both.
                if self._cursor is None:
                    self._cursor = cursor
            self._wanted.set()
            yield news
        finally:
            for uid in uids:
                self._waiting[uid].discard(news)
                if not self._waiting[uid]:
                    del self._waiting[uid]
            if not self._waiting:
                self._cursor = None
                self._wanted.clear()

    async def _run(self) -> None:
        while not self.closing.is_set():
            await wait_for_any(self._clock, None, self._wanted, self.closing)
            await wait_for_any(self._clock, self._poll_s, self._committed, self.closing)
            self._committed.clear()
            cursor = self._cursor
            if cursor is None:
                continue
            try:
                news = await self._blocking.run(self._read, cursor)
            except StoreError:
                # Whoever waits is told at the end of the wait, when the inbox cannot be read either.
                await self._clock.sleep(self._poll_s)
                continue
            except Exception:
                # A fault of ours must not leave everybody without news for good.
                log.exception("news cannot be read")
                await self._clock.sleep(self._poll_s)
                continue
            if self._cursor == cursor:
                self._cursor = news.cursor
            self._wake(news)

    def _read(self, cursor: int) -> _News:
        if self._store.cursor() == cursor:
            return _News(cursor)
        with self._store.snapshot() as snapshot:
            changes = snapshot.changes_since(cursor, limit=_BATCH)
            if len(changes) >= _BATCH:
                return _News(snapshot.latest_version(), everybody=True)
        if not changes:
            return _News(cursor)
        everybody = any(change.key.kind == _FOR_EVERYBODY for change in changes)
        uids = frozenset(change.uid for change in changes)
        if any(change.key.kind == "Run" for change in changes):
            uids |= {OFFERS}
        return _News(changes[-1].resource_version, uids, everybody)

    def _wake(self, news: _News) -> None:
        for uid, events in self._waiting.items():
            if news.everybody or uid in news.uids:
                for event in events:
                    event.set()
