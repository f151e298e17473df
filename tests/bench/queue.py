"""Benches of the dispatcher: what a mission costs at any depth of the queue, and how many get through in a second."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from schemas.resource import SYSTEM, Declared
from tests.bench.measure import Measured, by_turns, ms, per_second, processor_seconds, seconds, sized
from tests.bench.noop import NoOpEngine
from tests.fakes import world
from tests.fakes.world import World

WORKERS = 8
"""Connections of the floor, as the published benchmarks of such queues have them."""

PLACES = 32
"""Runs at a time of ours."""


class Line:
    """An engine with missions that wait, in the state in which their own passes left them."""

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir()
        self.world = World(folder)
        first = world.mission("first", priority=100)
        self.world.commit({"e.yaml": world.executor(), "a.yaml": world.agent(maxConcurrentMissions=1), "f.yaml": first})
        self.world.sync()
        self.world.commit({"m.yaml": world.mission("m")})
        self.world.sync()
        model = self.world.get("Mission", "m")
        assert model.status.get("readySince"), "it was meant to wait"
        with self.world.store.transaction(SYSTEM) as tx:
            for begin in range(0, count, 2_000):
                names = [f"q{n:06d}" for n in range(begin, min(count, begin + 2_000))]
                declared = [Declared("Mission", "default", name, model.spec) for name in names]
                tx.create_many(declared, manager="cli/bench", status=lambda key: model.status)
        self.world._restart()
        self._quiet()
        self.world.settle()

    def _quiet(self) -> None:
        """Leave out the first look at everything: the missions were looked at."""
        keep = {"Source", "Agent", "Executor"}
        self.world.pending = {key: p for key, p in self.world.pending.items() if key.kind in keep}

    def open_runs(self) -> list[str]:
        """Names of the open runs."""
        with self.world.store.snapshot() as snapshot:
            return [run.name for run in snapshot.objects("Run", states=("Pending", "Running"))]

    def serve(self, count: int) -> None:
        """End so many runs, one after the other; each lets the next mission in."""
        for _ in range(count):
            (name,) = self.open_runs()
            self.world.finish(name)

    def close(self) -> None:
        """Let go of it."""
        self.world.close()


def depth(scale: float) -> Measured:
    """Processor time from the end of a run to the start of the next one, with many that wait and with few."""
    many, few = sized(50_000, scale, 20), sized(500, scale, 10)
    count, rounds = (2, 1) if scale < 0.5 else (20, 9)
    with tempfile.TemporaryDirectory() as folder:
        deep, flat = Line(Path(folder, "deep"), many), Line(Path(folder, "flat"), few)
        a, b = by_turns(lambda: deep.serve(count), lambda: flat.serve(count), rounds, processor_seconds)
        deep.close()
        flat.close()
    return Measured(a / b, ms(a / count), ms(b / count), f"{many:,} against {few:,}")


def rate_sqlite(scale: float) -> Measured:
    """Missions a second, against a queue of one table and two durable statements for each."""
    count, rounds = sized(400, scale, 4), 1 if scale < 0.5 else 5
    with tempfile.TemporaryDirectory() as folder, closing(_raw_table(Path(folder, "raw.db"), count * rounds)) as raw:

        def floor() -> None:
            for _ in range(count):
                ((job,),) = raw.execute(
                    "UPDATE jobs SET state = 'running' WHERE id = (SELECT id FROM jobs WHERE state = 'waiting'"
                    " ORDER BY id LIMIT 1) RETURNING id"
                ).fetchall()
                raw.execute("UPDATE jobs SET state = 'done' WHERE id = ?", (job,))

        a, b = asyncio.run(_rates(Path(folder, "ours"), None, count, floor, rounds))
    return Measured(b / a, per_second(count, a), per_second(count, b), f"whole engine, {PLACES} runs at a time")


def _raw_table(path: Path, count: int) -> sqlite3.Connection:
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("PRAGMA journal_mode=WAL")
    raw.execute("PRAGMA synchronous=FULL")
    raw.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, state TEXT, body TEXT)")
    raw.execute("CREATE INDEX waiting ON jobs (id) WHERE state = 'waiting'")
    raw.executemany("INSERT INTO jobs (state, body) VALUES (?, ?)", [("waiting", "x" * 400)] * count)
    return raw


async def _rates(
    folder: Path, store: str | None, count: int, floor: Callable[[], None], rounds: int
) -> tuple[float, float]:
    """Median seconds of ours and of the floor, by turns."""
    pairs = []
    async with NoOpEngine(folder, store, places=min(count, PLACES)) as ours:
        for _ in range(rounds):
            await ours.lined_up(count)
            pairs.append((await ours.worked_off(), seconds(floor)))
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def rate_postgres(scale: float) -> Measured:
    """The same on PostgreSQL, against eight connections that claim with SKIP LOCKED."""
    from tests.fakes import postgres  # starts a server at its first use

    count, rounds = sized(400, scale, 4), 1 if scale < 0.5 else 5
    with tempfile.TemporaryDirectory() as folder:
        floor = _SkipLocked(postgres.store_database(), count * rounds)
        store = postgres.store_database()
        a, b = asyncio.run(_rates(Path(folder, "ours"), store, count, lambda: floor.serve(count), rounds))
        floor.close()
    return Measured(b / a, per_second(count, a), per_second(count, b), f"{WORKERS} connections of the floor")


class _SkipLocked:
    """A queue of one table."""

    def __init__(self, url: str, count: int) -> None:
        self._connections = [psycopg.connect(url, autocommit=True) for _ in range(WORKERS)]
        first = self._connections[0]
        first.execute("CREATE TABLE bench_jobs (id bigserial PRIMARY KEY, state text, body text)")
        first.execute("CREATE INDEX bench_waiting ON bench_jobs (id) WHERE state = 'waiting'")
        first.execute(
            "INSERT INTO bench_jobs (state, body) SELECT 'waiting', repeat('x', 400) FROM generate_series(1, %s)",
            (count,),
        )

    def serve(self, count: int) -> None:
        tickets: Iterator[int] = iter(range(count))
        lock = threading.Lock()

        def work(connection: psycopg.Connection[Any]) -> None:
            while True:
                with lock:
                    if next(tickets, None) is None:
                        return
                row = connection.execute(
                    "UPDATE bench_jobs SET state = 'running' WHERE id = (SELECT id FROM bench_jobs WHERE state ="
                    " 'waiting' ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1) RETURNING id"
                ).fetchone()
                assert row is not None
                connection.execute("UPDATE bench_jobs SET state = 'done' WHERE id = %s", (row[0],))

        threads = [threading.Thread(target=work, args=(connection,)) for connection in self._connections]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
