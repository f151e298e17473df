"""The store over a SQL backend: transactions, snapshots, and who is told of a commit."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from schemas.resource import Actor
from store import cache, search, search_hits
from store.backend import Backend
from store.codec import Mask, unmasked
from store.contract import Fence, Hit
from store.lock import EngineLock
from store.search_text import Question
from store.snapshot import SqlSnapshot
from store.transaction import SqlTransaction

log = logging.getLogger(__name__)


class SqlStore:
    """``contract.Store``. ``lock`` is released by close, after the last transaction."""

    def __init__(
        self,
        backend: Backend,
        *,
        now: Callable[[], datetime],
        new_id: Callable[[], str],
        lock: EngineLock | None = None,
        mask: Mask = unmasked,
    ) -> None:
        self._backend = backend
        self._now = now
        self._new_id = new_id
        self._lock = lock
        self._mask = mask
        self._subscribers: dict[object, Callable[[int], None]] = {}
        self._effect_subscribers: dict[object, Callable[[frozenset[str] | None], None]] = {}
        self._subscribing = threading.Lock()
        self._listening = False

    @property
    def shared(self) -> bool:
        return self._backend.shared

    @contextmanager
    def snapshot(self) -> Iterator[SqlSnapshot]:
        with self._backend.reading() as session:
            yield SqlSnapshot(session)

    @contextmanager
    def transaction(self, actor: Actor, *, fence: Fence | None = None) -> Iterator[SqlTransaction]:
        with self._backend.writing() as session:
            tx = SqlTransaction(session, actor, fence=fence, now=self._now, new_id=self._new_id, mask=self._mask)
            yield tx
            wrote = tx.finish()
        if wrote:
            self._tell(tx.version)
            if tx.woken:
                self._tell_of_effects(tx.woken)

    def cursor(self) -> int:
        return self._backend.version()

    def subscribe(self, callback: Callable[[int], None]) -> Callable[[], None]:
        token = object()
        with self._subscribing:
            if not self._listening:
                self._backend.listen(self._tell_of_others)
                self._listening = True
            self._subscribers = {**self._subscribers, token: callback}

        def unsubscribe() -> None:
            with self._subscribing:
                self._subscribers = {t: other for t, other in self._subscribers.items() if t is not token}

        return unsubscribe

    def _tell(self, version: int) -> None:
        for callback in self._subscribers.values():
            try:
                callback(version)
            except Exception:
                # The commit stands; raising here would tell its author that it failed.
                log.exception("a subscriber failed on version %d", version)

    def subscribe_effects(self, callback: Callable[[frozenset[str] | None], None]) -> Callable[[], None]:
        token = object()
        with self._subscribing:
            self._effect_subscribers = {**self._effect_subscribers, token: callback}

        def unsubscribe() -> None:
            with self._subscribing:
                others = {t: other for t, other in self._effect_subscribers.items() if t is not token}
                self._effect_subscribers = others

        return unsubscribe

    def _tell_of_others(self, version: int) -> None:
        self._tell(version)
        self._tell_of_effects(None)

    def _tell_of_effects(self, types: frozenset[str] | None) -> None:
        for callback in self._effect_subscribers.values():
            try:
                callback(types)
            except Exception:
                log.exception("a subscriber failed on effects of the types %s", ", ".join(sorted(types or ["any"])))

    def cached_blobs(self, compiler: str, blobs: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        return cache.read(self._backend, compiler, blobs)

    def cache_blobs(self, compiler: str, compiled: Mapping[str, bytes]) -> None:
        cache.write(self._backend, compiler, compiled)

    def search(self, question: Question, *, limit: int = 50) -> list[Hit]:
        return search_hits.find(self._backend, question, limit)

    def index_search(self, limit: int) -> int:
        return search.index(self._backend, limit)

    def close(self) -> None:
        self._backend.close()
        if self._lock is not None:
            self._lock.release()
