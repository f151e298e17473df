"""A store whose transactions fail in every way that a real one can, at the moments that a test chooses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, cast

from schemas.errors import Conflict, StoreUnavailable
from schemas.resource import Actor, Resource
from store.contract import Fence, Snapshot, Store, Transaction


class Crash(BaseException):
    """The engine dies here: no handler of an error may see it."""


class Fault(StrEnum):
    """What happens to one transaction or snapshot."""

    NONE = "-"
    REFUSED = "refused"  # it does not even begin
    LOST = "lost midway"  # the connection breaks at some call; nothing is written
    ROLLED_BACK = "rolled back"  # the commit fails
    UNSAID = "committed, but timed out"  # the commit succeeds and its author is told that it failed
    CONFLICT = "conflict"  # somebody else was faster
    CRASH_MIDWAY = "crash midway"  # the engine dies at some call
    CRASH_BEFORE = "crash before commit"
    CRASH_AFTER = "crash after commit"


READING = (Fault.REFUSED, Fault.LOST, Fault.CRASH_MIDWAY)
"""What can happen to a snapshot."""
WRITING = tuple(f for f in Fault if f is not Fault.NONE)
"""What can happen to a transaction."""


class _Counted:
    """A transaction or snapshot that fails at its n-th call (never for None), and notes in ``appended`` the events that
    it writes."""

    def __init__(self, inner: Snapshot, fault: Fault, at: int | None) -> None:
        self._inner = inner
        self._fault = fault
        self._left = at
        self.lost = False
        self.appended: list[tuple[int, str]] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._count()
            result = found(*args, **kwargs)
            if name == "event":
                subject = args[1]
                self.appended.append((result, f"{args[0]} {subject.key if isinstance(subject, Resource) else subject}"))
            return result

        return call

    def _count(self) -> None:
        if self.lost:
            raise StoreUnavailable("injected: the transaction was lost midway")
        if self._left is None:
            return
        self._left -= 1
        if self._left < 0:
            if self._fault is Fault.CRASH_MIDWAY:
                raise Crash
            self.lost = True
            raise StoreUnavailable("injected: the connection broke")


class FaultyStore:
    """``contract.Store`` over another one. ``choose`` is asked at each transaction or snapshot, with the faults that it
    may have, and tells which one and at which call. ``acknowledged`` holds the events of commits whose author was told
    that they succeeded, ``hits`` counts the faults that were injected."""

    def __init__(self, inner: Store, choose: Callable[[tuple[Fault, ...]], tuple[Fault, int]]) -> None:
        self._inner = inner
        self._choose = choose
        self.acknowledged: dict[int, str] = {}
        self.hits = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        fault, at = self._drawn(READING)
        with self._inner.snapshot() as snapshot:
            yield cast(Snapshot, _Counted(snapshot, fault, at if fault is not Fault.NONE else None))

    @contextmanager
    def transaction(self, actor: Actor, *, fence: Fence | None = None) -> Iterator[Transaction]:
        fault, at = self._drawn(WRITING)
        midway = fault in (Fault.LOST, Fault.CRASH_MIDWAY)
        with self._inner.transaction(actor, fence=fence) as tx:
            counted = _Counted(tx, fault, at if midway else None)
            yield cast(Transaction, counted)
            if counted.lost or fault is Fault.ROLLED_BACK:
                raise StoreUnavailable("injected: the commit failed")
            if fault is Fault.CONFLICT:
                raise Conflict("injected: somebody else was faster")
            if fault is Fault.CRASH_BEFORE:
                raise Crash
        if fault is Fault.CRASH_AFTER:
            raise Crash
        if fault is Fault.UNSAID:
            raise StoreUnavailable("injected: no answer to the commit, which succeeded")
        self.acknowledged.update(counted.appended)

    def _drawn(self, possible: tuple[Fault, ...]) -> tuple[Fault, int]:
        fault, at = self._choose(possible)
        self.hits += fault is not Fault.NONE
        if fault is Fault.REFUSED:
            raise StoreUnavailable("injected: the store does not answer")
        return fault, at
