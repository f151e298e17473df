"""Benches of the queue in bad weather: who is woken how fast, an open transaction, many finished runs, many quotas."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import psycopg

from schemas.resource import SYSTEM, Declared
from store.postgres import PostgresBackend
from tests.bench.measure import Measured, ms, per_second, percentile, sized
from tests.bench.noop import NoOpEngine
from tests.fakes.stores import PostgresHarness

KUEUE = 43.0
"""Admissions a second that Kueue publishes for its baseline."""
OPEN_S = 180.0
COHORTS, QUEUES, OF_QUEUE = 5, 6, 500
SLOTS = 4
"""Runs that a Provider takes at a time: what a cohort shares."""


def wake_up(scale: float) -> Measured:
    """p99 from the COMMIT of one process to the event loop of another, against LISTEN and NOTIFY by hand."""
    return asyncio.run(_wake_up(sized(500, scale, 5)))


async def _wake_up(rounds: int) -> Measured:
    ours: list[float] = []
    floor: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        harness = PostgresHarness(Path(folder))
        with _ours(harness) as ring, _raw(harness.url) as by_hand:
            for _ in range(rounds):  # by turns: what disturbs one disturbs the other
                ours.append(await ring())
                floor.append(await by_hand())
        harness.close()
    a, b = percentile(ours, 0.99), percentile(floor, 0.99)
    halves = f"medians {ms(statistics.median(ours))} and {ms(statistics.median(floor))}"
    return Measured(a / b, f"p99 {ms(a)}", f"p99 {ms(b)}", f"{rounds} commits; {halves}")


Ring = Callable[[], Any]


def _bell() -> tuple[asyncio.Event, Callable[[], None]]:
    """An event of this loop, and what sets it from any thread."""
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    return heard, lambda: cast(None, loop.call_soon_threadsafe(heard.set))


@contextmanager
def _ours(harness: PostgresHarness) -> Iterator[Ring]:
    """A commit of one store that another one is told of."""
    store, other = harness.open(), harness.open()
    heard, ring = _bell()
    unsubscribe = other.subscribe(lambda version: ring())
    backend = cast(PostgresBackend, store._backend)  # type: ignore[attr-defined]
    commit, sent = backend._commit, [0.0]

    def timed(*args: Any, **options: Any) -> None:
        sent[0] = time.perf_counter()
        commit(*args, **options)

    backend._commit = timed  # type: ignore[method-assign]
    numbers = iter(range(10**9))

    def write() -> None:
        with store.transaction(SYSTEM) as tx:
            tx.create(Declared("Hold", "default", f"h{next(numbers)}", {}))

    async def once() -> float:
        heard.clear()
        await asyncio.to_thread(write)
        await asyncio.wait_for(heard.wait(), 60)
        return time.perf_counter() - sent[0]

    yield once
    unsubscribe()


@contextmanager
def _raw(url: str) -> Iterator[Ring]:
    """The same with two bare connections."""
    heard, ring = _bell()
    writer, listener = psycopg.connect(url, autocommit=True), psycopg.connect(url, autocommit=True)
    writer.execute("CREATE TABLE bench_wake (id bigserial PRIMARY KEY, text text)")
    listener.execute("LISTEN bench_wake")
    stop = threading.Event()

    def listen() -> None:
        while not stop.is_set():
            for _ in listener.notifies(timeout=0.5, stop_after=1):
                ring()

    thread = threading.Thread(target=listen)
    thread.start()
    sent = [0.0]

    def write() -> None:
        writer.execute("BEGIN; INSERT INTO bench_wake (text) VALUES ('x')")
        sent[0] = time.perf_counter()
        writer.execute("NOTIFY bench_wake; COMMIT")

    async def once() -> float:
        heard.clear()
        await asyncio.to_thread(write)
        await asyncio.wait_for(heard.wait(), 60)
        return time.perf_counter() - sent[0]

    yield once
    stop.set()
    thread.join()
    writer.close()
    listener.close()


def held_open(scale: float) -> Measured:
    """Missions a second while one transaction is held open, against those before."""
    from tests.fakes import postgres  # starts a server at its first use

    url = postgres.store_database()
    return asyncio.run(_held_open(url, sized(400, scale, 4), OPEN_S if scale >= 0.5 else 0.0))


async def _held_open(url: str, count: int, open_s: float) -> Measured:
    async def rate() -> float:
        await ours.lined_up(count)
        return count / await ours.worked_off()

    with tempfile.TemporaryDirectory() as folder:
        async with NoOpEngine(Path(folder, "ours"), url, places=min(count, 32)) as ours:
            before = [await rate() for _ in range(3 if open_s else 1)]
            with psycopg.connect(url) as held:  # sees the moment of its first statement until it ends
                held.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                held.execute("SELECT count(*) FROM objects")
                began, found = time.monotonic(), [await rate()]
                while time.monotonic() - began < open_s:
                    found.append(await rate())
                held.rollback()
    a, b = statistics.median(found[-3:]), statistics.median(before)
    return Measured(a / b, f"{a:,.0f}/s", f"{b:,.0f}/s", f"the last of {len(found)} rounds in {open_s:.0f} s")


def finished_runs(scale: float) -> Measured:
    """Missions a second over many finished runs, against none."""
    from tests.fakes import postgres

    many = sized(1_000_000, scale, 50)
    return asyncio.run(_finished(postgres.store_database(), sized(400, scale, 4), many, 3 if scale >= 0.5 else 1))


async def _finished(url: str, count: int, many: int, rounds: int) -> Measured:
    async def rate() -> float:
        await ours.lined_up(count)
        return count / await ours.worked_off()

    with tempfile.TemporaryDirectory() as folder:
        async with NoOpEngine(Path(folder, "ours"), url, places=min(count, 32)) as ours:
            b = statistics.median([await rate() for _ in range(rounds)])
            await asyncio.to_thread(_leave_behind, url, many)
            a = statistics.median([await rate() for _ in range(rounds)])
    return Measured(a / b, f"{a:,.0f}/s", f"{b:,.0f}/s", f"{many:,} finished runs, each with its effect and its usage")


_COPIES = """
INSERT INTO {table} ({columns})
SELECT {values} FROM (SELECT * FROM {table} WHERE {of} LIMIT 1) one, generate_series(1, {many}) AS n
"""


def _leave_behind(url: str, many: int) -> None:
    """Copies of what a finished run leaves: its record, its spec, its effect, its usage."""
    copied: tuple[tuple[str, str, dict[str, str]], ...] = (
        ("objects", "kind = 'Run' AND state = 'Succeeded'",
         {"uid": "'run-' || n", "name": "'copy-' || n", "resource_version": "-2 * n"}),
        ("objects", "kind = 'UsageRecord'",
         {"uid": "'usage-' || n", "name": "'copy-' || n", "resource_version": "-2 * n - 1"}),
        ("specs", "uid = (SELECT uid FROM objects WHERE kind = 'Run' AND uid NOT LIKE 'run-%' LIMIT 1)",
         {"uid": "'run-' || n"}),
        ("effects", "state = 'Done'", {"id": "'effect-' || n", "key": "'copy/' || n"}),
    )  # fmt: skip
    with psycopg.connect(url, autocommit=True) as connection:
        for table, of, changed in copied:
            found = connection.execute(
                "SELECT column_name FROM information_schema.columns WHERE table_name = %s ORDER BY ordinal_position",
                (table,),
            ).fetchall()
            columns = [str(name) for (name,) in found]
            values = [changed.get(name, f"one.{name}") for name in columns]
            statement = _COPIES.format(table=table, columns=", ".join(columns), values=", ".join(values), of=of,
                                       many=many)  # fmt: skip
            connection.execute(cast(Any, statement))
        connection.execute("ANALYZE")


def quotas(scale: float) -> Measured:
    """Missions admitted a second in the shape of Kueue's baseline, against the figure that it publishes."""
    of_queue = sized(OF_QUEUE, scale, 2)
    return asyncio.run(_quotas(of_queue))


async def _quotas(of_queue: int) -> Measured:
    count = COHORTS * QUEUES * of_queue
    with tempfile.TemporaryDirectory() as folder:
        ours = NoOpEngine(Path(folder, "ours"), None, places=SLOTS, agents=COHORTS * QUEUES, pools=COHORTS, slots=SLOTS)
        async with ours:
            await ours.lined_up(count)
            spent = await ours.worked_off()
    rate = count / spent
    note = f"{COHORTS} Providers of {SLOTS} slots, {QUEUES} agents each, {of_queue} missions each"
    return Measured(rate / KUEUE, per_second(count, spent), f"{KUEUE:.0f}/s as published", note)
