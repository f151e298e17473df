"""What the supervisor adds to starting a program, as ratios to the system call that it ends in.

Run with ``make bench``. Ratios of one run on one machine; the absolute figures are there to judge them by.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from controllers.dispatch.supervision.wire import StartRequest
from controllers.dispatch.supervisor_client import SupervisorClient
from tests.fakes.programs.harness import request, supervised

ROUNDS = 200
TRUE = "/bin/true" if Path("/bin/true").exists() else "/usr/bin/true"


def order(run: str) -> StartRequest:
    return request(run, [TRUE])


async def timed(work: Callable[[int], Awaitable[object]], after: Callable[[int], Awaitable[object]]) -> float:
    """Median milliseconds of ``work`` over the rounds; ``after`` is not counted."""
    times = []
    for number in range(ROUNDS):
        before = time.perf_counter()
        await work(number)
        times.append(time.perf_counter() - before)
        await after(number)
    return statistics.median(times) * 1000


def timed_plainly(work: Callable[[int], int], after: Callable[[int], object]) -> float:
    """As ``timed``, for work that blocks; ``after`` takes what it returned."""
    times = []
    for number in range(ROUNDS):
        before = time.perf_counter()
        made = work(number)
        times.append(time.perf_counter() - before)
        after(made)
    return statistics.median(times) * 1000


def spawn_directly() -> float:
    return timed_plainly(lambda number: os.posix_spawn(TRUE, ["true"], {}, setsid=True), lambda pid: os.waitpid(pid, 0))


def fsync_once(folder: Path) -> float:
    def work(number: int) -> int:
        fd = os.open(folder / f"f{number}", os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(fd, b"x" * 300)
        os.fsync(fd)
        return fd

    return timed_plainly(work, os.close)


async def spawn_by_asyncio() -> float:
    started: dict[int, asyncio.subprocess.Process] = {}

    async def work(number: int) -> None:
        started[number] = await asyncio.create_subprocess_exec(TRUE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    async def after(number: int) -> None:
        await started[number].communicate()

    return await timed(work, after)


async def spawn_a_python() -> float:
    async def work(number: int) -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-I", "-S", "-c", "")
        await process.wait()

    async def after(number: int) -> None:
        return None

    return await timed(work, after)


async def start_by_supervisor(client: SupervisorClient) -> tuple[float, float]:
    """Median milliseconds from the request to the durable start, and from there to the recorded end."""
    ends: list[float] = []

    async def work(number: int) -> None:
        await client.start(order(f"r{number}"))

    async def after(number: int) -> None:
        before = time.perf_counter()
        await client.wait_exit(f"r{number}")
        ends.append(time.perf_counter() - before)

    start = await timed(work, after)
    return start, statistics.median(ends) * 1000


@pytest.mark.asyncio
async def test_starting_a_program_through_the_supervisor(tmp_path: Path) -> None:
    direct, plain, shim = spawn_directly(), await spawn_by_asyncio(), await spawn_a_python()
    fsync = fsync_once(tmp_path)
    async with supervised(tmp_path / "state") as client:
        before = time.perf_counter()
        await client.ping()
        launch = (time.perf_counter() - before) * 1000
        start, end = await start_by_supervisor(client)
        before = time.perf_counter()
        await asyncio.gather(*(client.start(order(f"many{n}")) for n in range(ROUNDS)))
        together = (time.perf_counter() - before) * 1000 / ROUNDS
        await asyncio.gather(*(client.wait_exit(f"many{n}") for n in range(ROUNDS)))
    print()
    print(f"posix_spawn              {direct:8.2f} ms    1.0")
    print(f"asyncio subprocess       {plain:8.2f} ms  {plain / direct:5.1f}")
    print(f"smallest Python shim     {shim:8.2f} ms  {shim / direct:5.1f}")
    print(f"one fsync                {fsync:8.2f} ms  {fsync / direct:5.1f}")
    print(f"supervisor, durable      {start:8.2f} ms  {start / direct:5.1f}   (one fsync of it)")
    print(f"  of {ROUNDS} at once, each  {together:8.2f} ms  {together / direct:5.1f}")
    print(f"  then to its end        {end:8.2f} ms  {end / direct:5.1f}")
    print(f"start of the supervisor  {launch:8.2f} ms  {launch / direct:5.1f}")
