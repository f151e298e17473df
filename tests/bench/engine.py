"""Benches of what the engine does once objects are there: passes, transactions, the log, memory, commands."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from controllers.runtime.clock import SystemClock
from controllers.runtime.controller import Controller
from controllers.runtime.lifecycle import Lifecycle
from controllers.runtime.recall import Recall, Watched
from controllers.runtime.result import Outcome, Result
from controllers.runtime.workqueue import Priority, WorkQueue
from schemas.base import Key
from schemas.resource import SYSTEM
from store.contract import Store
from tests.bench import bench_workqueue
from tests.bench.measure import (
    Measured,
    by_turns,
    ms,
    per_second,
    percentile,
    processor_seconds,
    sized,
)
from tests.fakes import world
from tests.fakes.stores import ALICE, KEY, SqliteHarness, mission
from tests.fakes.world import World

STATUS = {
    "state": "InProgress",
    "conditions": [
        {"type": t, "status": "True", "reason": "Progressing", "message": "on its way", "observedGeneration": 1}
        for t in ("Accepted", "Admitted", "Dispatched")
    ],
}


def noop_reconcile(scale: float) -> Measured:
    """Missions at rest that are to be looked at again: handed over by the queue to the engine's controller, which finds
    that nothing they rest on has changed; against getting and finishing the same keys of a bare queue."""
    count, rounds = sized(2_000, scale), 1 if scale < 0.5 else 9
    with tempfile.TemporaryDirectory() as folder:
        made = World(Path(folder))
        missions = {f"m-{n:06d}.yaml": world.mission(f"m-{n:06d}", agent=None) for n in range(count)}
        made.commit({"e.yaml": world.executor(), "a.yaml": world.agent(), **missions})
        made.sync()
        keys = [Key("Mission", "default", f"m-{n:06d}") for n in range(count)]
        recall, clock = Recall(), SystemClock()
        with made.store.snapshot() as snapshot:
            before = snapshot.latest_version()
        recall.begin(before)
        for key in keys:
            with made.store.transaction(SYSTEM) as tx:
                watched = Watched(tx)
                memory = watched.memory(made.reconcilers["Mission"](watched.as_transaction(), key))
            assert memory is not None, "the passes were meant to change nothing"
            recall.keep(key, memory)

        async def never(key: Key) -> Result:
            raise AssertionError(f"{key} was not recalled")

        async def passes() -> None:
            queue: WorkQueue[Key] = WorkQueue(clock, random.Random(0))
            life, left = Lifecycle(), len(keys)

            def told(outcome: Outcome[Key]) -> None:
                nonlocal left
                left -= 1
                if not left:
                    life.stopping.set()

            for key in keys:
                queue.add(key, Priority.RESYNC, fresh=False)
            await Controller("objects", never, queue=queue, clock=clock, on_result=told,
                             recall=lambda key: recall.answer(key, made.clock())).run(life)  # fmt: skip

        async def handed_over() -> None:
            queue: WorkQueue[Key] = WorkQueue(clock, random.Random(0))
            for key in keys:
                queue.add(key, Priority.RESYNC, fresh=False)
            for _ in keys:
                queue.done(await queue.get())

        a, b = by_turns(lambda: asyncio.run(passes()), lambda: asyncio.run(handed_over()), rounds, processor_seconds)
        with made.store.snapshot() as snapshot:
            assert snapshot.latest_version() == before, "the passes were meant to change nothing"
        made.readers.close()
        made.harness.close()
    return Measured(b / a, per_second(count, a), per_second(count, b), f"{count:,} missions at rest")


def urgent_key(scale: float) -> Measured:
    """p99 of the wait, in milliseconds."""
    backlog = sized(20_000, scale)
    waits = asyncio.run(bench_workqueue.urgent_wait(backlog))
    return Measured(percentile(waits, 0.99), f"p50 {statistics.median(waits):.3g} ms", "absolute, in ms",
                    f"100 urgent keys behind {backlog:,}")  # fmt: skip


def _transition(store: Store, number: int) -> None:
    with store.transaction(ALICE) as tx:
        seen = tx.get(KEY)
        assert seen is not None
        tx.put_status(seen, {**STATUS, "n": number})
        tx.event("ConditionChanged", seen, reason="Progressing", message="on its way", data={"n": number})


def audited_transition(scale: float) -> Measured:
    count, rounds = sized(500, scale), 1 if scale < 0.5 else 9
    with tempfile.TemporaryDirectory() as folder:
        harness = SqliteHarness(Path(folder))
        store = harness.open(exclusive=True)
        with store.transaction(ALICE) as tx:
            tx.create(mission(title="x" * 200))
        numbers = iter(range(10**9))
        with closing(sqlite3.connect(Path(folder, "raw.db"), isolation_level=None)) as raw:
            raw.execute("PRAGMA journal_mode=WAL")
            raw.execute("PRAGMA synchronous=FULL")
            raw.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, text)")
            a, b = by_turns(
                lambda: [_transition(store, next(numbers)) for _ in range(count)],
                lambda: [raw.execute("INSERT INTO rows (text) VALUES (?)", ("x" * 600,)) for _ in range(count)],
                rounds,
            )
        harness.close()
    return Measured(b / a, per_second(count, a), per_second(count, b), "status, event, chain; one thread")


def chain_verify(scale: float) -> Measured:
    count, rounds = sized(20_000, scale), 1 if scale < 0.5 else 5
    with tempfile.TemporaryDirectory() as folder:
        harness = SqliteHarness(Path(folder))
        store = harness.open(exclusive=True)
        with store.transaction(ALICE) as tx:
            for number in range(count):
                tx.event("ConditionChanged", KEY, reason="Progressing", message="on its way", data={"n": number})

        def ours() -> None:
            with store.snapshot() as snapshot:
                assert snapshot.verify_events().count == count

        def floor() -> None:
            head = ""
            with closing(sqlite3.connect(harness.path)) as raw:
                for row in raw.execute("SELECT * FROM events ORDER BY seq"):
                    head = hashlib.sha256((head + "".join(map(str, row[:13]))).encode()).hexdigest()

        a, b = by_turns(ours, floor, rounds)
        harness.close()
    return Measured(b / a, per_second(count, a), per_second(count, b), f"{count:,} events")


def memory(scale: float) -> Measured:
    count = sized(10_000, scale, 50)

    def held(work: Callable[[], object]) -> int:
        gc.collect()
        tracemalloc.start()
        kept = work()
        gc.collect()
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        del kept
        return size

    with tempfile.TemporaryDirectory() as folder:
        harness = SqliteHarness(Path(folder))
        store = harness.open()
        with store.transaction(ALICE) as tx:
            tx.create_many([mission(f"m{n:05d}", title="x" * 200, labels={"team": "docs"}) for n in range(count)])

        def objects() -> object:
            with store.snapshot() as snapshot:
                return snapshot.objects("Mission")

        objects()
        ours = held(objects)
        with store.snapshot() as snapshot:
            rows = [(r, json.dumps(r.spec), json.dumps(r.status)) for r in snapshot.objects("Mission")]
            # Keys of the outer dicts are constants that all of them share, as in any program that writes them out.
            floor = held(
                lambda: [
                    {
                        "kind": str(r.kind), "namespace": str(r.namespace), "name": r.name.encode().decode(),
                        "uid": r.uid.encode().decode(), "labels": dict(r.labels), "generation": r.generation,
                        "resourceVersion": r.resource_version + 0, "createdAt": r.created_at,
                        "spec": json.loads(spec), "status": json.loads(status),
                    }
                    for r, spec, status in rows
                ]
            )  # fmt: skip
        harness.close()
    return Measured(ours / floor, f"{ours / 1e6:.3g} MB", f"{floor / 1e6:.3g} MB", f"{count:,} objects, in Python")


def validate_file(scale: float) -> Measured:
    """The command as a process against a Python that only imports what it needs."""
    rounds = 1 if scale < 0.5 else 9
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "files").mkdir()
        Path(folder, "files", "m.yaml").write_text(world.executor())
        # Compiled files are kept, for both sides, as they are of what is installed.
        environment = {**os.environ, "HOME": folder, "PYTHONPYCACHEPREFIX": str(Path(folder, "compiled"))}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)

        def run(*arguments: str) -> None:
            subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, check=True)

        called = (
            "import sys; sys.argv = ['remit', 'validate', 'files/m.yaml']; from cli.entry import main; sys.exit(main())"
        )
        imports = "import typer, yaml; from pydantic import BaseModel, ConfigDict, Field, StringConstraints"
        run("-c", called)
        run("-c", imports)
        a, b = by_turns(lambda: run("-c", called), lambda: run("-c", imports), rounds, processor_seconds)
    return Measured(a / b, ms(a), ms(b), "processor time; floor: import typer, yaml, and models of pydantic")
