"""Synchronous work in threads, and in place."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator

import pytest

from controllers.runtime.blocking import Blocking, InlineBlocking, ThreadBlocking, hand_over
from tests.fakes.clock import VirtualClock

pytestmark = pytest.mark.asyncio

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


@pytest.fixture
def threads() -> Iterator[ThreadBlocking]:
    blocking = ThreadBlocking(2, name="store")
    yield blocking
    blocking.close()


@pytest.fixture(params=["threads", "inline"])
def blocking(request: pytest.FixtureRequest, threads: ThreadBlocking) -> Blocking:
    return threads if request.param == "threads" else InlineBlocking()


async def test_the_result_and_the_error_come_back(blocking: Blocking) -> None:
    assert await blocking.run(divmod, 7, 2) == (3, 1)
    assert await blocking.run(sorted, [1, 2], reverse=True) == [2, 1]
    with pytest.raises(ZeroDivisionError):
        await blocking.run(divmod, 7, 0)


async def test_the_context_of_the_caller_holds_inside_and_is_not_changed_by_it(blocking: Blocking) -> None:
    def work() -> str:
        seen = WHO.get()
        WHO.set("work")
        return seen

    WHO.set("caller")
    assert await blocking.run(work) == "caller"
    assert WHO.get() == "caller"


async def test_stop_iteration_becomes_an_error_instead_of_a_wait_for_ever(blocking: Blocking) -> None:
    with pytest.raises(RuntimeError, match="StopIteration left a function"):
        await asyncio.wait_for(blocking.run(next, iter([])), 60)


async def test_threads_have_names_and_do_not_block_the_loop(threads: ThreadBlocking) -> None:
    gate = threading.Event()

    def work() -> str:
        assert gate.wait(60)
        return threading.current_thread().name

    task = asyncio.create_task(threads.run(work))
    await VirtualClock().settle()
    gate.set()  # reached only because the loop goes on while the thread waits
    assert (await task).startswith("store")


async def test_a_cancelled_run_ends_only_when_its_work_has_ended(threads: ThreadBlocking) -> None:
    begun, gate = threading.Event(), threading.Event()
    ended = False

    def work() -> None:
        nonlocal ended
        begun.set()
        assert gate.wait(60)
        ended = True

    task = asyncio.create_task(threads.run(work))
    await VirtualClock().settle()
    assert begun.wait(60)
    for _ in range(3):
        task.cancel()
        await VirtualClock().settle()
    assert not task.done(), "the key would be free while the thread still works on it"
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended


async def test_an_error_after_the_cancellation_gives_way_to_it(threads: ThreadBlocking) -> None:
    begun, gate = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert gate.wait(60)
        raise ValueError("too late")

    task = asyncio.create_task(threads.run(work))
    await VirtualClock().settle()
    assert begun.wait(60)
    task.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_that_has_not_begun_is_cancelled_at_once() -> None:
    threads = ThreadBlocking(1)
    begun, gate = threading.Event(), threading.Event()
    ran: list[str] = []

    def first() -> None:
        begun.set()
        assert gate.wait(60)

    running = asyncio.create_task(threads.run(first))
    waiting = asyncio.create_task(threads.run(ran.append, "second"))
    await VirtualClock().settle()
    assert begun.wait(60)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    await running
    threads.close()
    assert ran == []
    with pytest.raises(RuntimeError):
        await threads.run(first)


async def test_closing_drops_what_has_not_begun_instead_of_leaving_it_waiting() -> None:
    threads = ThreadBlocking(1)
    begun, gate = threading.Event(), threading.Event()

    def first() -> str:
        begun.set()
        assert gate.wait(60)
        return "finished"

    running = asyncio.create_task(threads.run(first))
    waiting = asyncio.create_task(threads.run(first))
    await VirtualClock().settle()
    assert begun.wait(60)
    threads.close(wait=False)
    gate.set()
    assert await running == "finished"
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_simulation_can_let_others_run_before_each_piece_of_work() -> None:
    clock = VirtualClock()
    order: list[str] = []
    slow = InlineBlocking(lambda: clock.sleep(2))
    quick = InlineBlocking(lambda: clock.sleep(1))
    both = asyncio.gather(slow.run(order.append, "slow"), quick.run(order.append, "quick"))
    await clock.run(both)
    assert order == ["quick", "slow"]


async def test_what_is_handed_over_comes_back_into_the_event_loop_with_its_result_or_its_error(
    blocking: Blocking,
) -> None:
    loop = asyncio.get_running_loop()
    found: asyncio.Queue[object] = asyncio.Queue()

    def fail() -> int:
        raise ValueError("no")

    def then(outcome: object) -> None:
        assert asyncio.get_running_loop() is loop
        found.put_nowait(outcome)

    hand_over(blocking, lambda: 7, then)
    assert found.empty(), "never at once"
    assert await found.get() == 7
    hand_over(blocking, fail, then)
    assert isinstance(await found.get(), ValueError)
