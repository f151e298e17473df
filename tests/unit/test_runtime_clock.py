"""The system clock, deadlines, waits, and the virtual clock that the other tests rely on."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, timedelta

import pytest

from controllers.runtime.clock import Clock, Deadline, SystemClock, wait_for_any
from tests.fakes.clock import MONDAY, VirtualClock

pytestmark = pytest.mark.asyncio


async def test_the_system_clock_gives_aware_utc_and_a_monotonic_time_that_grows() -> None:
    clock: Clock = SystemClock()
    assert clock.now().tzinfo is UTC
    before = clock.monotonic()
    await clock.sleep(0.002)
    assert clock.monotonic() >= before + 0.002
    await clock.sleep(-5)  # yields


async def test_a_system_timer_rings_at_its_moment_and_never_in_the_turn_that_set_it() -> None:
    clock = SystemClock()
    rang = asyncio.Event()
    clock.call_at(clock.monotonic() - 100, rang.set)
    assert not rang.is_set()
    await rang.wait()
    when = clock.monotonic() + 0.005
    rang.clear()
    clock.call_at(when, rang.set)
    clock.call_at(when, rang.clear).cancel()
    await rang.wait()
    assert clock.monotonic() >= when - 0.001


async def test_virtual_time_moves_only_when_told_and_rings_each_timer_at_its_own_moment() -> None:
    clock = VirtualClock()
    rang: list[float] = []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        rang.append(clock.elapsed)
        await clock.sleep(1)
        rang.append(clock.elapsed)

    tasks = [asyncio.create_task(sleeper(s)) for s in (5, 2)]
    await clock.settle()
    assert (rang, clock.pending) == ([], 2)
    await clock.advance(4)
    assert rang == [2, 3]
    await clock.advance(2)
    assert rang == [2, 3, 5, 6]
    assert clock.now() == MONDAY + timedelta(seconds=6)
    await asyncio.gather(*tasks)


async def test_a_jump_of_the_wall_clock_leaves_monotonic_time_alone() -> None:
    clock = VirtualClock()
    before = clock.monotonic()
    clock.jump_wall(-86_400)
    assert clock.monotonic() == before
    assert clock.now() == MONDAY - timedelta(days=1)


async def test_the_virtual_clock_runs_an_awaitable_through_all_its_waits() -> None:
    clock = VirtualClock()

    async def work() -> str:
        for _ in range(100):
            await clock.sleep(3_600)
        return "done"

    assert await clock.run(work()) == "done"
    assert clock.elapsed == 360_000


async def test_the_virtual_clock_reports_a_wait_that_nothing_can_end() -> None:
    clock = VirtualClock()
    with pytest.raises(AssertionError, match="nothing will ever happen"):
        await clock.run(asyncio.Event().wait())
    with pytest.raises(AssertionError, match="not done after 10 virtual seconds"):
        await clock.run(clock.sleep(11), limit_s=10)


async def test_a_deadline_ends_its_body_at_the_time() -> None:
    clock = VirtualClock()

    async def body() -> None:
        deadline = Deadline(clock, 5)
        with pytest.raises(TimeoutError, match="not finished after 5 s"):
            async with deadline:
                await clock.sleep(60)
        assert deadline.expired
        assert clock.elapsed == 5
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await clock.sleep(1)  # the task lives on

    await clock.run(body())


async def test_a_body_that_ends_in_time_leaves_no_timer() -> None:
    clock = VirtualClock()

    async def body() -> str:
        async with Deadline(clock, 5) as deadline:
            await clock.sleep(4)
        assert not deadline.expired
        async with Deadline(clock, None):
            await clock.sleep(100)
        return "kept"

    assert await clock.run(body()) == "kept"
    assert clock.pending == 0


async def test_errors_of_the_body_pass_a_deadline_unchanged() -> None:
    clock = VirtualClock()
    deadline = Deadline(clock, 5)
    with pytest.raises(TimeoutError, match="its own"):
        async with deadline:
            raise TimeoutError("its own")
    assert not deadline.expired


async def test_a_cancellation_from_outside_is_stronger_than_the_deadline() -> None:
    clock = VirtualClock()

    async def body() -> None:
        async with Deadline(clock, 5):
            await clock.sleep(60)

    task = asyncio.create_task(body())
    await clock.settle()
    clock.call_at(clock.monotonic() + 5, task.cancel)
    clock.tick(5)  # both ring before the task gets a turn
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_nested_deadlines_blame_the_right_one() -> None:
    clock = VirtualClock()

    async def body(outer_s: float, inner_s: float) -> tuple[bool, bool]:
        outer, inner = Deadline(clock, outer_s), Deadline(clock, inner_s)
        try:
            async with outer:
                try:
                    async with inner:
                        await clock.sleep(100)
                except TimeoutError:
                    await clock.sleep(0.5)
        except TimeoutError:
            pass
        return outer.expired, inner.expired

    assert await clock.run(body(10, 5)) == (False, True)
    assert await clock.run(body(5, 10)) == (True, False)


async def test_a_deadline_outside_a_task_is_refused() -> None:
    failed: list[str] = []

    def outside() -> None:
        try:
            Deadline(VirtualClock(), 1).__aenter__().send(None)
        except RuntimeError as error:
            failed.append(str(error))

    asyncio.get_running_loop().call_soon(outside)
    await VirtualClock().settle()
    assert failed == ["a Deadline works inside a task only"]


async def test_waiting_for_events_ends_with_the_first_or_with_the_time() -> None:
    clock = VirtualClock()
    first, second = asyncio.Event(), asyncio.Event()
    assert not await clock.run(wait_for_any(clock, 5, first, second))
    assert clock.elapsed == 5
    clock.call_at(clock.monotonic() + 2, second.set)
    assert await clock.run(wait_for_any(clock, 5, first, second))
    assert clock.elapsed == 7
    assert await wait_for_any(clock, 0, first, second), "an event that is set needs no waiting"
    assert len(asyncio.all_tasks()) <= 3
    await clock.settle()
    assert len(asyncio.all_tasks()) == 1, "a wait left a task behind"


async def test_deadlines_and_cancellations_at_random_never_swallow_a_cancellation() -> None:
    async def body(clock: VirtualClock, spans: list[float]) -> None:
        try:
            async with Deadline(clock, spans[0]):
                await clock.sleep(spans[1])
                await clock.sleep(spans[2])
        except TimeoutError:
            await clock.sleep(spans[3])
        await clock.sleep(100)

    for seed in range(300):
        clock, chance = VirtualClock(), random.Random(seed)
        spans = [chance.choice([0.0, 0.5, 1.0, 1.5]) for _ in range(5)]
        task = asyncio.create_task(body(clock, spans))
        await clock.settle()
        if chance.random() < 0.5:
            clock.tick(spans[4])  # timers and the cancellation in one turn
        else:
            await clock.advance(spans[4])
        task.cancel()
        await clock.advance(10)
        assert task.cancelled(), f"seed {seed}"
