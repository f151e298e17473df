"""Keys that run later: a heap of due times with one entry a key."""

from __future__ import annotations

import heapq
import itertools
import math
from typing import Generic, NamedTuple, TypeVar

from controllers.runtime.lanes import Priority

K = TypeVar("K")

_SLACK = 64


class Delay(NamedTuple, Generic[K]):
    """A wait of one key. `due` is monotonic seconds; `number` breaks ties in the order of asking, so that keys are
    never compared. `backoff` marks a wait after a failure, which a mere reminder does not cut short."""

    due: float
    number: int
    key: K
    priority: Priority
    backoff: bool


class Delays(Generic[K]):
    """At most one wait a key. Asking and cancelling cost O(log n); a replaced entry stays in the heap until it
    surfaces or until such leftovers outnumber the living, so memory follows the number of waiting keys."""

    def __init__(self) -> None:
        self._heap: list[Delay[K]] = []
        self._live: dict[K, Delay[K]] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._live)

    def get(self, key: K) -> Delay[K] | None:
        """The wait of `key`, if it has one."""
        return self._live.get(key)

    def ask(self, key: K, due: float, priority: Priority, *, backoff: bool) -> None:
        """Wait until `due`. Of two wishes for one key the earlier time and the higher priority hold."""
        if not math.isfinite(due):
            raise ValueError(f"a due time is a finite number of monotonic seconds, not {due}")
        old = self._live.get(key)
        if old is not None:
            priority = max(priority, old.priority)
            if old.due <= due:
                if priority == old.priority:
                    return
                due, backoff = old.due, old.backoff
        entry = Delay(due, next(self._numbers), key, priority, backoff)
        self._live[key] = entry
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._live) + _SLACK:
            self._heap = list(self._live.values())
            heapq.heapify(self._heap)

    def cancel(self, key: K) -> bool:
        """Forget the wait of `key`; returns whether there was one."""
        return self._live.pop(key, None) is not None

    def next_due(self) -> float | None:
        """The earliest due time; None when nothing waits."""
        heap, live = self._heap, self._live
        while heap and live.get(heap[0].key) is not heap[0]:
            heapq.heappop(heap)
        return heap[0].due if heap else None

    def take_due(self, now: float, limit: int) -> list[Delay[K]]:
        """Take the waits whose time has come, the earliest first, `limit` at most."""
        heap, live = self._heap, self._live
        taken: list[Delay[K]] = []
        while heap and len(taken) < limit:
            entry = heap[0]
            alive = live.get(entry.key) is entry
            if alive and entry.due > now:
                break
            heapq.heappop(heap)
            if alive:
                del live[entry.key]
                taken.append(entry)
        return taken

    def clear(self) -> None:
        """Forget every wait."""
        self._heap.clear()
        self._live.clear()
