"""The other queues, each with an executor that does nothing: run by the Python of their own environment, one at a time.

``python programs.py NAME ADDRESS COUNT`` puts COUNT jobs into the queue, works them off with up to PLACES at a time,
and writes the seconds that working them off took. Jobs are there before the time begins to run. Nothing of this project
is imported here, and everything of a queue where it is used.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Callable

PLACES = 32


def procrastinate(address: str, count: int) -> float:
    """One worker, its jobs as tasks of one loop."""
    module = importlib.import_module("procrastinate")
    app = module.App(connector=module.PsycopgConnector(conninfo=address, min_size=8, max_size=8))

    @app.task(name="noop")
    async def noop() -> None:
        """Nothing."""

    async def work() -> float:
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            await noop.batch_defer_async(*[{} for _ in range(count)])
            began = time.perf_counter()
            await app.run_worker_async(
                wait=False, concurrency=PLACES, install_signal_handlers=False, listen_notify=False
            )
            return time.perf_counter() - began

    return asyncio.run(work())


def pgqueuer(address: str, count: int) -> float:
    """One worker over asyncpg, which takes jobs in batches."""
    module, asyncpg = importlib.import_module("pgqueuer"), importlib.import_module("asyncpg")
    modes = importlib.import_module("pgqueuer.domain.types").QueueExecutionMode

    async def work() -> float:
        connection = await asyncpg.connect(address)
        driver = module.AsyncpgDriver(connection)
        queries = module.Queries(driver)
        await queries.install()
        worker = module.PgQueuer(driver)

        @worker.entrypoint("noop")
        async def noop(job: object) -> None:
            """Nothing."""

        await queries.enqueue(["noop"] * count, [None] * count, [0] * count)
        began = time.perf_counter()
        await worker.run(mode=modes.drain, batch_size=PLACES)
        spent = time.perf_counter() - began
        await connection.close()
        return spent

    return asyncio.run(work())


def dbos(address: str, count: int) -> float:
    """Durable workflows without steps, from a queue that is looked at often."""
    module = importlib.import_module("dbos")
    database = module.DBOS(
        config={"name": "bench", "system_database_url": address, "run_admin_server": False, "log_level": "ERROR",
                "application_version": "1"}
    )  # fmt: skip

    @database.workflow()
    def noop() -> None:
        """Nothing."""

    database.launch()
    database.register_queue("bench", worker_concurrency=0, polling_interval_sec=0.01)
    handles = [database.enqueue_workflow("bench", noop) for _ in range(count)]
    began = time.perf_counter()
    database.register_queue("bench", worker_concurrency=PLACES, polling_interval_sec=0.01)
    for handle in handles:
        handle.get_result(polling_interval_sec=0.01)
    spent = time.perf_counter() - began
    module.DBOS.destroy()
    return spent


def huey(address: str, count: int) -> float:
    """Threads over one SQLite file, every commit on disk, and the result of each job kept."""
    module = importlib.import_module("huey")
    queue = module.SqliteHuey("bench", filename=address, fsync=True, results=True, store_none=True)

    @queue.task()
    def noop() -> None:
        """Nothing."""

    for _ in range(count):
        noop()
    consumer = queue.create_consumer(workers=8, periodic=False, initial_delay=0.001, max_delay=0.01)
    began = time.perf_counter()
    consumer.start()
    while queue.result_count() < count:
        time.sleep(0.01)  # noqa: TID251 - a program of its own
    spent = time.perf_counter() - began
    consumer.stop(graceful=True)
    return spent


PROGRAMS: dict[str, Callable[[str, int], float]] = {
    "huey": huey,
    "procrastinate": procrastinate,
    "dbos": dbos,
    "pgqueuer": pgqueuer,
}

if __name__ == "__main__":
    _, chosen, where, many = sys.argv
    print(PROGRAMS[chosen](where, int(many)))
