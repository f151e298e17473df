"""Starting in order, keeping alive, telling the truth about health, and ending in time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from controllers.runtime.blocking import ThreadBlocking
from controllers.runtime.lifecycle import ComponentState, Lifecycle, Run
from controllers.runtime.manager import Manager, ShutdownReport
from schemas import errors
from tests.fakes.clock import VirtualClock

pytestmark = pytest.mark.asyncio


class Process:
    """A manager under a virtual clock, with a log of what its components did."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.manager = Manager(self.clock, random.Random(0))
        self.log: list[str] = []
        self.stop = asyncio.Event()
        self.report: ShutdownReport | None = None

    def part(self, name: str, *, ready_after_s: float = 0, end_after_s: float = 0) -> Run:
        async def run(life: Lifecycle) -> None:
            self.log.append(f"{name} starts")
            await self.clock.sleep(ready_after_s)
            life.ready()
            await life.stopping.wait()
            await self.clock.sleep(end_after_s)
            self.log.append(f"{name} ends")

        return run

    @contextlib.asynccontextmanager
    async def running(self, *, drain_s: float = 30) -> AsyncIterator[None]:
        task = asyncio.create_task(self.manager.run(self.stop, drain_s=drain_s))
        await self.clock.settle()
        try:
            yield
        finally:
            self.stop.set()
            self.report = await self.clock.run(task)

    def health(self, name: str) -> tuple[ComponentState, int, str]:
        (found,) = [h for h in self.manager.health() if h.name == name]
        return found.state, found.restarts, found.problem


async def test_components_start_in_order_and_end_in_reverse() -> None:
    process = Process()
    for name in ("store", "queue", "api"):
        process.manager.add(name, process.part(name, ready_after_s=1, end_after_s=1))
    async with process.running():
        assert process.log == ["store starts"]
        assert not process.manager.ready
        await process.clock.advance(3)
        assert process.manager.ready
    assert process.log == ["store starts", "queue starts", "api starts", "api ends", "queue ends", "store ends"]
    assert process.report == ShutdownReport()
    assert process.report.clean
    assert {h.state for h in process.manager.health()} == {ComponentState.STOPPED}


async def test_one_component_that_is_never_ready_does_not_keep_the_others_from_starting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    process = Process()
    process.manager.add("source", process.part("source", ready_after_s=3_600))
    process.manager.add("api", process.part("api"))
    async with process.running():
        await process.clock.advance(9)
        assert process.log == ["source starts"]
        await process.clock.advance(2)
        assert process.log == ["source starts", "api starts"]
        assert process.health("source") == (ComponentState.STARTING, 0, "")
        assert process.health("api")[0] is ComponentState.READY
        assert not process.manager.ready
        await process.clock.advance(3_600)
        assert process.manager.ready
    assert "source is not ready after 10 s" in caplog.text


@pytest.mark.parametrize(
    ("crash", "problem"),
    [
        (RuntimeError("password=hunter2"), "RuntimeError: see the log"),
        (errors.StoreUnavailable("the disk is full"), "the disk is full"),
        (asyncio.CancelledError(), "CancelledError: see the log"),
        (BaseExceptionGroup("workers", [asyncio.CancelledError()]), "BaseExceptionGroup: see the log"),
        (None, "ended before it was asked to"),
    ],
)
async def test_a_crash_is_restarted_with_backoff_and_shown_until_the_component_is_ready_again(
    crash: BaseException | None, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    process = Process()
    starts: list[float] = []

    async def run(life: Lifecycle) -> None:
        starts.append(process.clock.elapsed)
        if len(starts) <= 3:
            if crash is not None:
                raise crash
            return
        await process.clock.sleep(1)
        life.ready()
        await life.stopping.wait()

    process.manager.add("poller", run)
    async with process.running():
        assert process.health("poller") == (ComponentState.RESTARTING, 1, problem)
        assert not process.manager.ready
        await process.clock.advance(7)
        assert process.health("poller") == (ComponentState.READY, 3, "")
        assert process.manager.ready
    gaps = [later - sooner for sooner, later in itertools.pairwise(starts)]
    for gap, base in zip(gaps, [0.75, 1.5, 3.0], strict=True):
        assert base <= gap <= base * 1.2
    crashes = [record for record in caplog.records if "starts again" in record.getMessage()]
    assert len(crashes) == 3
    assert all((record.exc_info is not None) == (crash is not None) for record in crashes)
    assert process.report is not None
    assert process.report.clean


async def test_a_component_that_ran_long_starts_again_soon_after_its_crash() -> None:
    process = Process()
    starts: list[float] = []

    async def run(life: Lifecycle) -> None:
        starts.append(process.clock.elapsed)
        life.ready()
        await process.clock.sleep(100 if len(starts) > 6 else 0.1)
        raise OSError

    process.manager.add("poller", run)
    async with process.running():
        await process.clock.advance(600)
    gaps = [later - sooner for sooner, later in itertools.pairwise(starts)]
    assert gaps[5] > 20, "six quick crashes in a row back off"
    assert all(100 < gap < 101 for gap in gaps[6:]), "after a long run the first delay is short again"


async def test_a_restart_that_waits_out_its_backoff_ends_at_once_when_stopped() -> None:
    process = Process()

    async def run(life: Lifecycle) -> None:
        raise OSError

    process.manager.add("poller", run)
    async with process.running():
        await process.clock.advance(300)
        stopped_at = process.clock.elapsed
    assert process.clock.elapsed == stopped_at
    assert process.report == ShutdownReport()


async def test_a_check_tells_what_is_wrong_with_a_ready_component() -> None:
    process = Process()
    problem = ""

    def check() -> str:
        if problem == "boom":
            raise ValueError("secret")
        return problem

    process.manager.add("missions", process.part("missions"), check=check)
    async with process.running():
        assert process.manager.ready
        problem = "a pass is stuck"
        assert process.health("missions") == (ComponentState.READY, 0, "a pass is stuck")
        assert not process.manager.ready
        problem = "boom"
        assert process.health("missions")[2] == "the health check failed: ValueError: see the log"


async def test_health_says_since_when() -> None:
    process = Process()
    process.manager.add("api", process.part("api", ready_after_s=4))
    began = process.clock.now()
    async with process.running():
        await process.clock.advance(50)
        (health,) = process.manager.health()
        assert (health.since - began).total_seconds() == 4
        assert health.ok


async def test_what_overstays_the_drain_is_cancelled_and_named() -> None:
    process = Process()
    process.manager.add("first", process.part("first", end_after_s=1))
    process.manager.add("slow", process.part("slow", end_after_s=3_600))
    process.manager.add("last", process.part("last", end_after_s=1))
    async with process.running(drain_s=30):
        stopped_at = process.clock.elapsed
    assert process.clock.elapsed - stopped_at == 30
    assert process.report == ShutdownReport(cancelled=("slow", "first"))
    assert "last ends" in process.log


async def test_a_grace_of_its_own_leaves_the_others_their_time() -> None:
    process = Process()
    process.manager.add("controllers", process.part("controllers", end_after_s=20))
    process.manager.add("streams", process.part("streams", end_after_s=3_600), grace_s=3)
    async with process.running(drain_s=30):
        stopped_at = process.clock.elapsed
    assert process.clock.elapsed - stopped_at == 23
    assert process.report == ShutdownReport(cancelled=("streams",))
    assert "controllers ends" in process.log


async def test_what_ignores_even_its_cancellation_is_reported_as_stuck() -> None:
    process = Process()
    threads = ThreadBlocking(1)
    begun, gate = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert gate.wait(60)

    async def run(life: Lifecycle) -> None:
        life.ready()
        await threads.run(work)

    process.manager.add("first", process.part("first"))
    process.manager.add("thread", run)
    async with process.running():
        assert begun.wait(60)
    assert process.report == ShutdownReport(cancelled=("thread", "first"), stuck=("thread",))
    gate.set()
    threads.close()
    await asyncio.wait([task for task in asyncio.all_tasks() if task is not asyncio.current_task()])


async def test_a_stop_during_the_start_ends_what_has_started_and_starts_nothing_more() -> None:
    process = Process()
    process.manager.add("first", process.part("first"))
    process.manager.add("second", process.part("second", ready_after_s=5))
    process.manager.add("third", process.part("third"))
    async with process.running():
        await process.clock.advance(1)
    assert process.log == ["first starts", "second starts", "second ends", "first ends"]
    assert process.manager.health()[2].state is ComponentState.PENDING


async def test_a_failure_while_ending_is_logged_and_is_no_crash(caplog: pytest.LogCaptureFixture) -> None:
    process = Process()

    async def run(life: Lifecycle) -> None:
        life.ready()
        await life.stopping.wait()
        raise OSError("the socket is gone")

    process.manager.add("api", run)
    with caplog.at_level(logging.ERROR):
        async with process.running():
            pass
    assert process.report == ShutdownReport()
    assert process.manager.health()[0].restarts == 0
    assert "api failed while it ended" in caplog.text


async def test_cancelling_the_manager_cancels_everything_and_leaves_no_task() -> None:
    process = Process()
    process.manager.add("first", process.part("first", end_after_s=100))
    process.manager.add("second", process.part("second", end_after_s=100))
    task = asyncio.create_task(process.manager.run(process.stop))
    await process.clock.settle()
    task.cancel()
    await process.clock.settle()
    assert task.cancelled()
    assert process.clock.elapsed == 0
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("misuse", ["twice", "late", "again"])
async def test_misuse_is_refused(misuse: str) -> None:
    process = Process()
    process.manager.add("api", process.part("api"))
    refused: dict[str, tuple[type[Exception], str, Callable[[], object]]] = {
        "twice": (ValueError, "registered already", lambda: process.manager.add("api", process.part("api"))),
        "late": (RuntimeError, "too late", lambda: process.manager.add("new", process.part("new"))),
        "again": (RuntimeError, "runs once", lambda: process.manager.run(process.stop).send(None)),
    }
    kind, message, call = refused[misuse]
    if misuse == "twice":
        with pytest.raises(kind, match=message):
            call()
        return
    async with process.running():
        with pytest.raises(kind, match=message):
            call()
