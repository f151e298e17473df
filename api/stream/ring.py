"""A ring of what happened last. Whoever follows keeps a position and nothing else, so that a slow reader costs
nothing: it finds out that it fell behind when it reads again."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

I = TypeVar("I")  # noqa: E741


class Ring(Generic[I]):
    """Items by position (growing, with gaps). ``floor`` is the position behind which everything is here; ``head`` the
    newest. Belongs to one event loop."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._positions: list[int] = []
        self._items: list[I] = []
        self._waiting: set[asyncio.Future[None]] = set()
        self._told: Callable[[], None] = lambda: None
        self.floor = 0
        self.head = 0
        self.followers = 0

    def restart(self, head: int) -> None:
        """Forget everything; what comes follows ``head``."""
        self._positions, self._items = [], []
        self.floor = self.head = head

    def extend(self, items: Sequence[tuple[int, I]], head: int) -> None:
        """Append, up to ``head``, and tell everybody who waits."""
        for position, item in items:
            self._positions.append(position)
            self._items.append(item)
        self.head = max(self.head, head)
        if len(self._items) > 2 * self._size:
            cut = len(self._items) - self._size
            self.floor = self._positions[cut - 1]
            del self._positions[:cut], self._items[:cut]
        if items:
            self.wake()

    def since(self, position: int) -> list[I] | None:
        """What came after ``position``; None when some of it is gone."""
        if position < self.floor:
            return None
        return self._items[bisect_right(self._positions, position) :]

    def tell(self, told: Callable[[], None]) -> None:
        """Call ``told`` at each wake, before those who wait."""
        self._told = told

    def wake(self) -> None:
        """Let everybody who waits look again."""
        self._told()
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def waiter(self) -> asyncio.Future[None]:
        """Done at the next wake."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        return future
