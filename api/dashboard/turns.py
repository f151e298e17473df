"""One making for all who asked before it began."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Turns(Generic[K, V]):
    """Makes values that must not be older than the question. Who asks while a value is made may not have that one, and
    shares the next with all others who ask meanwhile: a crowd costs two. Belongs to one event loop."""

    def __init__(self) -> None:
        self._running: dict[K, asyncio.Task[V]] = {}
        self._next: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K, make: Callable[[], Awaitable[V]]) -> V:
        """What ``make`` gives, begun after this call; its exception is raised here, too. ``make`` is the same for all
        who ask for ``key``."""
        turn = self._next.get(key)
        if turn is None:
            turn = self._next[key] = asyncio.create_task(self._make(key, self._running.get(key), make))
        return await asyncio.shield(turn)  # one who leaves takes it from nobody

    async def _make(self, key: K, before: asyncio.Task[V] | None, make: Callable[[], Awaitable[V]]) -> V:
        try:
            if before is not None:
                await asyncio.wait([before])
        finally:
            me = self._next.pop(key)
        self._running[key] = me
        try:
            return await make()
        finally:
            if self._running.get(key) is me:
                del self._running[key]
