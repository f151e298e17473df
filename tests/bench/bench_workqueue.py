"""The workqueue against asyncio.Queue: ``make bench``. Figures are ratios of one run on one machine.

asyncio.Queue deduplicates nothing, has no priority, no delay and no notion of a running key: it is the floor of what
handing an object from one task to another costs, measured in the same process a moment apart.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable

from controllers.runtime.clock import SystemClock
from controllers.runtime.workqueue import Priority, WorkQueue

KEYS = 100_000
REPEATS = 3

Key = tuple[str, str, str]


def make_queue() -> WorkQueue[Key]:
    return WorkQueue(SystemClock(), random.Random(0))


def make_keys(count: int) -> list[Key]:
    return [("Mission", "team", f"m-{number}") for number in range(count)]


def best_rate(measure: Callable[[], Awaitable[float]]) -> float:
    """Operations a second of the best of a few runs: the one least disturbed."""

    async def once() -> float:
        return await measure()

    return max(asyncio.run(once()) for _ in range(REPEATS))


async def plain_queue() -> float:
    queue: asyncio.Queue[Key] = asyncio.Queue()
    for key in make_keys(KEYS):
        queue.put_nowait(key)
    began = time.perf_counter()
    for _ in range(KEYS):
        await queue.get()
        queue.task_done()
    return KEYS / (time.perf_counter() - began)


async def get_and_done() -> float:
    queue = make_queue()
    for key in make_keys(KEYS):
        queue.add(key)
    began = time.perf_counter()
    for _ in range(KEYS):
        queue.done(await queue.get())
    return KEYS / (time.perf_counter() - began)


async def add_new() -> float:
    queue, keys = make_queue(), make_keys(KEYS)
    began = time.perf_counter()
    for key in keys:
        queue.add(key)
    return KEYS / (time.perf_counter() - began)


async def add_again() -> float:
    queue, keys = make_queue(), make_keys(1_000)
    chance = random.Random(1)
    sequence = [chance.choice(keys) for _ in range(5 * KEYS)]
    began = time.perf_counter()
    for key in sequence:
        queue.add(key)
    rate = len(sequence) / (time.perf_counter() - began)
    assert queue.stats().depth == len(set(sequence))
    return rate


async def passes_by_ten_workers() -> float:
    """Ten workers, 10,000 keys, each added again while it runs, ten times over."""
    queue, keys, rounds = make_queue(), make_keys(10_000), 10
    runs = dict.fromkeys(keys, 0)
    left = len(keys) * rounds
    finished = asyncio.Event()

    async def work() -> None:
        nonlocal left
        while True:
            key = await queue.get()
            queue.forget(key)
            runs[key] += 1
            if runs[key] < rounds:
                queue.add(key)
            queue.done(key)
            left -= 1
            if not left:
                finished.set()

    tasks = [asyncio.create_task(work()) for _ in range(10)]
    for key in keys:
        queue.add(key)
    began = time.perf_counter()
    await finished.wait()
    spent = time.perf_counter() - began
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return len(keys) * rounds / spent


async def delay_asks() -> float:
    queue, keys = make_queue(), make_keys(KEYS)
    began = time.perf_counter()
    for number, key in enumerate(keys):
        queue.add_after(key, 60 + number % 997)
    rate = KEYS / (time.perf_counter() - began)
    queue.shutdown()
    return rate


async def urgent_wait(backlog: int) -> list[float]:
    """Milliseconds from the add of an urgent key to its pass, while workers are at `backlog` others, 50 us each."""
    queue = make_queue()
    waits: list[float] = []
    added: dict[Key, float] = {}

    async def work() -> None:
        while True:
            key = await queue.get()
            if key in added:
                waits.append((time.perf_counter() - added.pop(key)) * 1_000)
            busy_until = time.perf_counter() + 50e-6
            while time.perf_counter() < busy_until:
                pass
            queue.done(key)
            await SystemClock().sleep(0)

    tasks = [asyncio.create_task(work()) for _ in range(4)]
    for key in make_keys(backlog):
        queue.add(key, Priority.RESYNC)
    for number in range(100):
        await SystemClock().sleep(0.002)
        key = ("Hold", "", f"stop-{number}")
        added[key] = time.perf_counter()
        queue.add(key, Priority.URGENT)
    while added:
        await SystemClock().sleep(0.001)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return sorted(waits)


async def timer_lateness() -> list[float]:
    """Milliseconds between a due time and the pass, for 100,000 keys due within one second."""
    queue: WorkQueue[int] = WorkQueue(SystemClock(), random.Random(0))
    start = time.monotonic() + 1.5
    for number in range(KEYS):
        queue.add_at(number, start + (number % 1_000) / 1_000)
    late = []
    for _ in range(KEYS):
        number = await queue.get()
        late.append((time.monotonic() - start - (number % 1_000) / 1_000) * 1_000)
        queue.done(number)
    assert min(late) >= 0, "a key came before its time"
    return sorted(late)


def percentile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]


def test_bench_workqueue() -> None:
    floor = best_rate(plain_queue)
    print(f"\n{'asyncio.Queue get + task_done':<46}{floor:>12,.0f} /s")
    for name, measure in (
        ("get + done", get_and_done),
        ("passes, 10 workers, added again while running", passes_by_ten_workers),
        ("add of a new key", add_new),
        ("add of a key that waits already", add_again),
        ("add_after", delay_asks),
    ):
        rate = best_rate(measure)
        print(f"{name:<46}{rate:>12,.0f} /s  {rate / floor:5.2f} of asyncio.Queue")
    for backlog in (0, 20_000):
        waits = asyncio.run(urgent_wait(backlog))
        print(
            f"{f'urgent key behind {backlog:,} others':<46}"
            f"p50 {statistics.median(waits):.3f} ms  p99 {percentile(waits, 0.99):.3f} ms"
        )
    late = asyncio.run(timer_lateness())
    print(
        f"{'100,000 keys due within 1 s, lateness':<46}"
        f"p50 {statistics.median(late):.3f} ms  p99 {percentile(late, 0.99):.3f} ms"
    )
