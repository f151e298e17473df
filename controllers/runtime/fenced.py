"""A store whose every write counts only while a lease is held."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager

from schemas.resource import Actor
from store.contract import Fence, Hit, Snapshot, Store, Transaction
from store.search_text import Question


class FencedStore:
    """``contract.Store`` over another one: each transaction carries ``fence``, and raises Fenced once it is void.

    The cache of compiled blobs is not fenced: it may be emptied or filled by anybody at any time.
    """

    def __init__(self, inner: Store, fence: Fence) -> None:
        self._inner = inner
        self._fence = fence

    @property
    def shared(self) -> bool:
        return self._inner.shared

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        return self._inner.snapshot()

    def transaction(self, actor: Actor, *, fence: Fence | None = None) -> AbstractContextManager[Transaction]:
        return self._inner.transaction(actor, fence=fence or self._fence)

    def cursor(self) -> int:
        return self._inner.cursor()

    def subscribe(self, callback: Callable[[int], None]) -> Callable[[], None]:
        return self._inner.subscribe(callback)

    def subscribe_effects(self, callback: Callable[[frozenset[str] | None], None]) -> Callable[[], None]:
        return self._inner.subscribe_effects(callback)

    def cached_blobs(self, compiler: str, blobs: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        return self._inner.cached_blobs(compiler, blobs)

    def cache_blobs(self, compiler: str, compiled: Mapping[str, bytes]) -> None:
        self._inner.cache_blobs(compiler, compiled)

    def search(self, question: Question, *, limit: int = 50) -> list[Hit]:
        return self._inner.search(question, limit=limit)

    def index_search(self, limit: int) -> int:
        """Not fenced either: it is derived, and agrees with others by its own cursor."""
        return self._inner.index_search(limit)

    def close(self) -> None:
        """The owner of the inner store closes it."""
