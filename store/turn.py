"""Whose turn it is to write: a lock that threads get in the order in which they asked."""

from __future__ import annotations

import threading
from collections import deque

from schemas.errors import StoreUnavailable


class Turn:
    """A first-come-first-served lock, not reentrant.

    SQLite lets one connection write at a time and leaves the others polling; queueing here instead is fair and
    costs no sleep. Threads of other processes are met at BEGIN IMMEDIATE.
    """

    def __init__(self, *, wait_s: float) -> None:
        self._wait_s = wait_s
        self._mutex = threading.Lock()
        self._holder: int | None = None
        self._waiting: deque[tuple[threading.Lock, int]] = deque()

    def taken(self) -> Turn:
        """Hold it for the block. Raises StoreUnavailable when it is not free within ``wait_s``, RuntimeError when this
        thread holds it already: a transaction inside a transaction would wait for itself."""
        return self

    def __exit__(self, *_: object) -> None:
        self._release()

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._mutex:
            if self._holder is None:
                self._holder = me
                return
            if self._holder == me:
                raise RuntimeError("a transaction was begun inside another one of the same thread")
            gate = threading.Lock()
            gate.acquire()
            self._waiting.append((gate, me))
        granted = False
        try:
            granted = gate.acquire(timeout=self._wait_s)
        finally:
            if not granted:  # too late, or interrupted by a signal
                self._give_up(gate, me)
        if not granted:
            raise StoreUnavailable(
                f"another thread of this process has kept the store's only write transaction for more than"
                f" {self._wait_s:g} s; try again"
            )

    def _give_up(self, gate: threading.Lock, me: int) -> None:
        with self._mutex:
            handed_over = (gate, me) not in self._waiting  # in the moment we stopped waiting
            if not handed_over:
                self._waiting.remove((gate, me))
        if handed_over:
            self._release()

    def _release(self) -> None:
        with self._mutex:
            if self._waiting:
                gate, self._holder = self._waiting.popleft()
                gate.release()
            else:
                self._holder = None
