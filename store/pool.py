"""Connections that wait to be used again. A snapshot takes a few microseconds: so taking one out has to cost less."""

from __future__ import annotations

import queue
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar


class _Closable(Protocol):
    def close(self) -> None:
        """End it."""


C = TypeVar("C", bound=_Closable)


class PoolExhausted(Exception):
    """So many connections are in use that nobody gave one back in time."""


class Pool(Generic[C]):
    """At most ``most`` connections are out at a time, and at most ``kept`` wait; who asks for one waits ``wait_s``
    seconds for it. The one that was used last comes first. For any number of threads: the queue and the list do each of
    their acts at once."""

    def __init__(self, connect: Callable[[], C], *, kept: int, most: int, wait_s: float) -> None:
        self._connect = connect
        self._kept = kept
        self._wait_s = wait_s
        self._idle: list[C] = []
        self._closed = False
        self._permits: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(most):
            self._permits.put(None)

    def take(self) -> C:
        """One for the caller alone, who gives it back in any case. Raises PoolExhausted, and whatever connecting
        raises."""
        try:
            self._permits.get(timeout=self._wait_s)
        except queue.Empty:
            raise PoolExhausted from None
        try:
            return self._idle.pop()
        except IndexError:
            pass
        try:
            return self._connect()
        except BaseException:
            self._permits.put(None)
            raise

    def give_back(self, connection: C, *, sound: bool) -> None:
        """With no transaction begun on it; closed where it is not ``sound``."""
        if sound and len(self._idle) < self._kept:
            self._idle.append(connection)
        else:
            _end(connection)
        self._permits.put(None)
        if self._closed:
            self.close()

    def close(self) -> None:
        """End those that wait now, and others when they come back."""
        self._closed = True
        with suppress(IndexError):
            while True:
                _end(self._idle.pop())


def _end(connection: _Closable) -> None:
    with suppress(Exception):  # it is of no use any more, whatever it says
        connection.close()
