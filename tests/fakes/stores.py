"""Stores for tests: one harness per backend, a clock that a test sets, ids that count.

A second backend is one more class in ``BACKENDS``; the contract suite then runs over it unchanged.
"""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn, Protocol

from schemas.base import Key
from schemas.resource import Actor, ActorKind, Declared, Provenance
from store import open_store
from store.contract import Amounts, EffectState, EntryKind, LedgerEntry, Op, Store, Transaction
from store.sqlite import SqliteBackend

START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
ALICE = Actor(ActorKind.HUMAN, "user:alice", "Store")
KEY = Key("Mission", "default", "a")
COUNTER = Key("Mission", "default", "counter")


def apart_from_search(name: str | None, type_: str, _: object) -> bool:
    """For comparing tables: the index over words is the database's own, and tables.py does not describe it."""
    return type_ not in ("table", "index") or not str(name).startswith("search_text")


class SettableClock:
    """Stands still until told to move."""

    def __init__(self, start: datetime = START) -> None:
        self.moment = start

    def __call__(self) -> datetime:
        return self.moment

    def tick(self, seconds: float = 1.0) -> datetime:
        """Move, also backwards; returns the new moment."""
        self.moment += timedelta(seconds=seconds)
        return self.moment


class CountedIds:
    """``id-000001``, ``id-000002``, ...: sortable like the real ones. Safe between threads."""

    def __init__(self, prefix: str = "id") -> None:
        self._prefix = prefix
        self._numbers = itertools.count(1)

    def __call__(self) -> str:
        return f"{self._prefix}-{next(self._numbers):06d}"


class Harness(Protocol):
    """One database of one backend, fresh for a test."""

    clock: SettableClock
    url: str

    def open(self) -> Store:
        """A store on the database, created at the first call; later calls open it again, as another process would."""

    def close(self) -> None:
        """Close whatever was opened."""


@lru_cache(maxsize=1)
def empty_store() -> bytes:
    """The bytes of a store that was just created. Copying it takes a hundredth of the time of the migrations."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "state.db"
        open_store(f"sqlite:///{path}", now=SettableClock(), new_id=CountedIds(), create=True).close()
        return path.read_bytes()


class SqliteHarness:
    """A file in a directory of the test."""

    def __init__(self, directory: Path, *, ids: str = "id") -> None:
        self._ids = ids
        self.path = directory / "state.db"
        self.url = f"sqlite:///{self.path}"
        self.clock = SettableClock()
        self._prefixes = itertools.count(1)
        self._opened: list[Store] = []

    def open(self, **options: Any) -> Store:
        if not self.path.exists():
            self.path.write_bytes(empty_store())
        ids = CountedIds(f"{self._ids}{next(self._prefixes)}")
        store = open_store(self.url, now=self.clock, new_id=ids, **options)
        self._opened.append(store)
        return store

    def close(self) -> None:
        for store in self._opened:
            store.close()


class PostgresHarness:
    """A database of its own, empty at first."""

    def __init__(self, directory: Path, *, ids: str = "id") -> None:
        from tests.fakes import postgres  # starts a server at its first use

        self._postgres = postgres
        self._ids = ids
        self.url = postgres.store_database()
        self.clock = SettableClock()
        self._prefixes = itertools.count(1)
        self._opened: list[Store] = []

    def open(self, **options: Any) -> Store:
        ids = CountedIds(f"{self._ids}{next(self._prefixes)}")
        store = open_store(self.url, now=self.clock, new_id=ids, **options)
        self._opened.append(store)
        return store

    def close(self) -> None:
        for store in self._opened:
            store.close()
        self._postgres.give_back(self.url)


BACKENDS: dict[str, Callable[[Path], Harness]] = {"postgres": PostgresHarness, "sqlite": SqliteHarness}


class Abandoned(Exception):
    """Ends a transaction that a test gives up."""


@contextmanager
def abandoned(store: Store, *, by: type[BaseException] = Abandoned) -> Iterator[Transaction]:
    """A transaction that fails at the end of its block."""
    with suppress(by), store.transaction(ALICE) as tx:
        yield tx
        raise by


def mission(name: str = "a", *, namespace: str = "default", kind: str = "Mission", **more: Any) -> Declared:
    """A declared object. ``labels``, ``annotations`` and ``provenance`` go there, everything else into the spec."""
    place = {field: more.pop(field) for field in ("labels", "annotations", "provenance") if field in more}
    return Declared(kind, namespace, name, more or {"title": name}, **place)


def provenance(line: int = 1, *, path: str = "missions/a.yaml", blob: str = "b1") -> Provenance:
    """Where an object was declared."""
    return Provenance("specs", "specs/default", "main@sha1:0123", path, line, blob)


def step(tx: Transaction) -> int:
    """One transaction's worth of everything. After n steps the store holds exactly what ``steps_in`` expects of n."""
    counter = tx.get(COUNTER)
    n = 1 if counter is None else counter.generation + 1
    declared = mission(COUNTER.name, kind=COUNTER.kind, n=n)
    counter = tx.create(declared) if counter is None else tx.put_spec(counter, declared)
    counter = tx.put_status(counter, {"n": n})
    tx.event("Updated", counter, reason="Counted", message=str(n), data={"related": ["all"]})
    tx.enqueue("Count", f"effect-{n}", COUNTER, {"n": n}, due_at=START - timedelta(days=1) + timedelta(seconds=n))
    if n > 1:
        [effect] = tx.claim_effects("me", types=["Count"], limit=1, lease_s=60)
        tx.finish_effect(effect, {"n": n - 1})
        tx.post(LedgerEntry(f"settle-{n - 1}", EntryKind.SETTLE, ("all",), Amounts(2), tx.now, f"reserve-{n - 1}"))
    tx.post(LedgerEntry(f"reserve-{n}", EntryKind.RESERVE, ("all",), Amounts(5), tx.now))
    tx.set_timer(COUNTER, "next", START + timedelta(seconds=n))
    tx.remove(tx.create(mission(f"short-lived-{n}")))
    return n


def steps_in(store: Store) -> int:
    """How many steps a store holds; fails unless it holds each of them whole."""
    with store.snapshot() as snapshot:
        counter = snapshot.get(COUNTER)
        n = 0 if counter is None else counter.generation
        report = snapshot.verify_events()
        assert (report.count, report.problem) == (n, "")
        assert len(snapshot.events(subject_uid="all", limit=10_000)) == n
        assert snapshot.balance("all").spent == Amounts(2 * max(n - 1, 0))
        assert snapshot.balance("all").reserved == Amounts(5 * min(n, 1))
        assert [e.key for e in snapshot.open_reservations()] == [f"reserve-{n}"][: min(n, 1)]
        assert [e.key for e in snapshot.effects(states=[EffectState.PENDING])] == [f"effect-{n}"][: min(n, 1)]
        assert len(snapshot.effects(states=[EffectState.DONE], limit=10_000)) == max(n - 1, 0)
        assert [c.op for c in snapshot.changes_since(0, limit=10_000)].count(Op.REMOVED) == n
        assert snapshot.latest_version() == store.cursor()
        if counter is not None:
            assert counter.status == {"n": n}
            assert [s.spec for s in snapshot.specs(counter.uid)] == [{"n": i} for i in range(1, n + 1)]
            assert [t.due_at for t in snapshot.timers()] == [START + timedelta(seconds=n)]
    return n


def _serve_victims() -> None:
    """For crash tests: each line of standard input names a store and a number of statements. A forked child steps
    through transactions on the store, writing "<pid> <n>" after each commit, until it kills itself before that
    statement, or somebody kills it (0 statements); then "dead" is written. Forking saves the imports of each round."""
    for line in sys.stdin:
        url, statements = line.split()
        pid = os.fork()
        if pid == 0:
            _be_a_victim(url, int(statements))
        os.waitpid(pid, 0)
        os.write(1, b"dead\n")


def _be_a_victim(url: str, statements: int) -> NoReturn:
    left = itertools.count(statements, -1)

    def count_down(_: str) -> None:
        if next(left) == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    connect = SqliteBackend.connect

    def connect_counting(self: SqliteBackend, **options: Any) -> sqlite3.Connection:
        connection = connect(self, **options)
        connection.set_trace_callback(count_down)
        return connection

    if statements:
        SqliteBackend.connect = connect_counting  # type: ignore[method-assign]
    ids = CountedIds(f"pid{os.getpid()}")
    store = open_store(url, now=SettableClock(), new_id=ids, create=True, exclusive=True)
    os.write(1, f"{os.getpid()} 0\n".encode())
    while True:
        with store.transaction(ALICE) as tx:
            n = step(tx)
        os.write(1, f"{os.getpid()} {n}\n".encode())


if __name__ == "__main__":
    _serve_victims()
