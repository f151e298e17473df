"""What a controller does with the answer of a pass, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest

from controllers.runtime.blocking import ThreadBlocking
from controllers.runtime.controller import CONFLICT_RETRIES, Controller
from controllers.runtime.lifecycle import Lifecycle
from controllers.runtime.result import DONE, Outcome, RequeueAfter, RequeueAt, Result, Verdict
from controllers.runtime.workqueue import Priority, WorkQueue
from schemas import errors
from schemas.base import Key
from tests.fakes.clock import VirtualClock

pytestmark = pytest.mark.asyncio

A = Key("Mission", "default", "a")
B = Key("Mission", "default", "b")


class Engine:
    """A controller under a virtual clock. `passes` is when each pass began, in seconds from the start."""

    def __init__(
        self,
        reconcile: Callable[[Key], Awaitable[Result]],
        *,
        workers: int = 1,
        timeout_s: float | None = 60.0,
        hook: Callable[[Outcome[Key]], object] | None = None,
    ) -> None:
        self.clock = VirtualClock()
        self.queue: WorkQueue[Key] = WorkQueue(self.clock, random.Random(0))
        self.passes: list[tuple[Key, float]] = []
        self.outcomes: list[Outcome[Key]] = []
        self.life = Lifecycle()

        async def counted(key: Key) -> Result:
            self.passes.append((key, self.clock.elapsed))
            return await reconcile(key)

        def told(outcome: Outcome[Key]) -> None:
            self.outcomes.append(outcome)
            if hook is not None:
                hook(outcome)

        self.controller = Controller(
            "missions",
            counted,
            queue=self.queue,
            clock=self.clock,
            workers=workers,
            timeout_s=timeout_s,
            on_result=told,
        )

    @property
    def times(self) -> list[float]:
        return [at for _, at in self.passes]

    @property
    def verdicts(self) -> list[Verdict]:
        return [outcome.verdict for outcome in self.outcomes]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.controller.run(self.life))
        await self.clock.settle()
        assert self.life.is_ready.is_set()
        try:
            yield
        finally:
            self.life.stopping.set()
            await self.clock.run(task)


def answers(*script: Result | BaseException) -> Callable[[Key], Awaitable[Result]]:
    """Passes that answer in turn; the last answer repeats."""
    turn = iter(range(10**9))

    async def reconcile(key: Key) -> Result:
        answer = script[min(next(turn), len(script) - 1)]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return reconcile


async def test_done_rests_until_something_wakes_the_key() -> None:
    engine = Engine(answers(DONE))
    async with engine.running():
        engine.queue.add(A)
        await engine.clock.advance(100_000)
        assert engine.passes == [(A, 0)]
        engine.queue.add(A)
        await engine.clock.settle()
    assert engine.times == [0, 100_000]
    assert engine.verdicts == [Verdict.DONE, Verdict.DONE]


async def test_requeue_after_and_requeue_at_run_again_at_that_time() -> None:
    engine = Engine(answers(DONE))
    at = engine.clock.now() + timedelta(seconds=150)
    engine = Engine(answers(RequeueAfter(90), RequeueAt(at), DONE))
    async with engine.running():
        engine.queue.add(A)
        await engine.clock.advance(1_000)
    assert engine.times == [0, 90, 150]
    assert engine.verdicts == [Verdict.REQUEUED, Verdict.REQUEUED, Verdict.DONE]
    assert [outcome.after_s for outcome in engine.outcomes] == [90, 60, None]


async def test_requeue_at_a_time_that_has_passed_runs_again_at_once() -> None:
    engine = Engine(answers(RequeueAt(VirtualClock().now() - timedelta(days=1)), DONE))
    async with engine.running():
        engine.queue.add(A)
        await engine.clock.settle()
    assert engine.times == [0, 0]


async def test_retry_waits_for_the_backoff_and_success_resets_it() -> None:
    fault = errors.Retry("the provider is busy")
    engine = Engine(answers(fault, fault, fault, DONE, fault, DONE))
    async with engine.running():
        engine.queue.add(A)
        await engine.clock.advance(60)
        assert engine.queue.num_requeues(A) == 0
        engine.queue.add(A)
        await engine.clock.advance(60)
    gaps = [later - sooner for sooner, later in itertools.pairwise(engine.times)]
    for gap, base in zip(gaps, [0.75, 1.5, 3.0], strict=False):
        assert base <= gap <= base * 1.2
    assert 0.75 <= gaps[4] <= 0.9, "the success between did not reset the backoff"
    assert engine.outcomes[0].error is fault
    assert engine.outcomes[0].after_s == pytest.approx(gaps[0])


async def test_retry_after_overrides_the_backoff() -> None:
    engine = Engine(answers(errors.Retry("slow down", after=33), DONE))
    async with engine.running():
        engine.queue.add(A)
        await engine.clock.advance(100)
    assert engine.times == [0, 33]


@pytest.mark.parametrize(
    "fault",
    [
        errors.StoreUnavailable("disk full"),
        errors.Fenced("the lease went to another engine"),
        errors.SourceUnreadable("no such ref", reason="RefMissing"),
        errors.Refused("a hold stops it", reason="Held"),
        errors.NotFound("mission/default/a"),
    ],
)
async def test_other_errors_of_ours_are_retried_with_backoff(fault: errors.RemitError) -> None:
    engine = Engine(answers(fault, DONE))
    async with engine.running():
        engine.queue.add(A)
        await engine.clock.advance(1)
    assert engine.verdicts == [Verdict.RETRY, Verdict.DONE]
    assert 0.75 <= engine.times[1] <= 0.9


async def test_waiting_is_not_retried_and_forgets_the_backoff() -> None:
    engine = Engine(answers(errors.Retry("x"), errors.Waiting("waits for a person", on="approvalrequest/x"), DONE))
    async with engine.running():
        engine.queue.add(A)
        await engine.clock.advance(100_000)
        assert len(engine.passes) == 2
        assert engine.queue.num_requeues(A) == 0
        engine.queue.add(A, fresh=False)
        await engine.clock.settle()
    assert engine.verdicts == [Verdict.RETRY, Verdict.WAITING, Verdict.DONE]


@pytest.mark.parametrize(
    "fault",
    [
        errors.Terminal("never works"),
        errors.Stalled("names no agent", reason="AgentMissing"),
        errors.InvalidSpec([errors.Diagnostic("a.yaml", 3, 1, "spec.agentRef", "unknown")]),
    ],
)
async def test_a_parked_key_sleeps_through_resyncs_until_a_real_change(fault: errors.RemitError) -> None:
    engine = Engine(answers(fault, DONE))
    async with engine.running():
        engine.queue.add(A)
        for _ in range(20):
            await engine.clock.advance(600)
            engine.queue.add(A, Priority.RESYNC, fresh=False)
        assert engine.times == [0]
        assert engine.queue.is_parked(A)
        engine.queue.add(A)
        await engine.clock.settle()
    assert engine.verdicts == [Verdict.PARKED, Verdict.DONE]


async def test_a_conflict_is_decided_again_at_once() -> None:
    conflict = errors.Conflict("mission/a moved from version 4 to 5")
    engine = Engine(answers(conflict, conflict, DONE))
    async with engine.running():
        engine.queue.add(A)
        await engine.clock.settle()
    assert engine.times == [0, 0, 0]
    assert engine.verdicts == [Verdict.DONE]
    assert engine.controller.stats().conflicts == 2


async def test_contention_that_does_not_end_becomes_a_failure_with_backoff() -> None:
    engine = Engine(answers(errors.Conflict("moved")))
    async with engine.running():
        engine.queue.add(A)
        await engine.clock.settle()
        assert len(engine.passes) == CONFLICT_RETRIES + 1
        assert engine.queue.num_requeues(A) == 1
        await engine.clock.advance(0.9)
    assert len(engine.passes) == 2 * (CONFLICT_RETRIES + 1)
    assert engine.verdicts == [Verdict.CONFLICT, Verdict.CONFLICT]
    assert engine.controller.stats().conflicts == len(engine.passes)


async def test_a_panic_is_recovered_counted_logged_with_its_key_and_retried(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = Engine(answers(KeyError("spec"), DONE))
    with caplog.at_level(logging.ERROR):
        async with engine.running():
            engine.queue.add(A)
            engine.queue.add(B)
            await engine.clock.advance(1)
    assert engine.verdicts == [Verdict.PANIC, Verdict.DONE, Verdict.DONE]
    assert [key for key, _ in engine.passes] == [A, B, A]
    assert engine.controller.stats().passes[Verdict.PANIC] == 1
    (record,) = caplog.records
    assert "Mission/default/a" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is KeyError


@pytest.mark.parametrize("wrong", [None, "done", 5])
async def test_an_answer_that_is_no_result_is_a_panic(wrong: object) -> None:
    engine = Engine(answers(wrong, DONE))  # type: ignore[arg-type]
    async with engine.running():
        engine.queue.add(A)
        await engine.clock.advance(1)
    assert engine.verdicts == [Verdict.PANIC, Verdict.DONE]


async def test_a_cancellation_that_leaks_out_of_a_pass_does_not_end_the_worker() -> None:
    engine = Engine(answers(asyncio.CancelledError(), DONE))
    async with engine.running():
        engine.queue.add(A)
        await engine.clock.advance(1)
    assert engine.verdicts == [Verdict.PANIC, Verdict.DONE]


async def test_a_pass_that_is_too_long_is_cancelled_and_retried() -> None:
    passes = 0

    async def reconcile(key: Key) -> Result:
        nonlocal passes
        passes += 1
        if passes == 1:
            await asyncio.Event().wait()
        return DONE

    engine = Engine(reconcile, timeout_s=20)
    async with engine.running():
        engine.queue.add(A)
        await engine.clock.advance(30)
    assert engine.verdicts == [Verdict.TIMEOUT, Verdict.DONE]
    assert engine.outcomes[0].duration_s == 20
    assert 20.75 <= engine.times[1] <= 20.9


async def test_a_timeout_error_of_the_pass_itself_is_a_panic_and_not_our_timeout() -> None:
    engine = Engine(answers(TimeoutError("socket"), DONE))
    async with engine.running():
        engine.queue.add(A)
        await engine.clock.advance(1)
    assert engine.verdicts == [Verdict.PANIC, Verdict.DONE]


async def test_a_pass_that_turns_its_cancellation_into_another_error_still_timed_out() -> None:
    async def reconcile(key: Key) -> Result:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("the connection broke") from None
        return DONE

    engine = Engine(reconcile, timeout_s=20)
    async with engine.running():
        engine.queue.add(A)
        await engine.clock.advance(20)
        assert engine.verdicts == [Verdict.TIMEOUT]


async def test_a_thread_past_its_timeout_keeps_its_key_and_shows_up_as_a_problem() -> None:
    threads = ThreadBlocking(2)
    begun, gate = threading.Event(), threading.Event()
    inside: list[Key] = []
    overlap: list[Key] = []

    def blocking_pass(key: Key) -> Result:
        if key in inside:
            overlap.append(key)
        inside.append(key)
        begun.set()
        assert gate.wait(60)
        inside.remove(key)
        return DONE

    engine = Engine(lambda key: threads.run(blocking_pass, key), workers=2, timeout_s=20)
    async with engine.running():
        engine.queue.add(A)
        await engine.clock.settle()
        assert begun.wait(60)
        engine.queue.add(A)
        await engine.clock.advance(41)
        assert len(engine.passes) == 1, "a second worker took a key whose thread still runs"
        assert engine.controller.problem() == (
            "missions: a pass of Mission/default/a runs since 41 s and does not end at its timeout of 20 s"
        )
        gate.set()
        while len(engine.outcomes) < 2:
            await engine.clock.settle()
            await asyncio.wait([asyncio.create_task(threads.run(int))])
        assert engine.controller.problem() == ""
    threads.close()
    assert engine.verdicts == [Verdict.TIMEOUT, Verdict.DONE]
    assert overlap == []


async def test_a_hook_that_fails_is_counted_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def hook(outcome: Outcome[Key]) -> None:
        raise ValueError("a metric is broken")

    engine = Engine(answers(DONE), hook=hook)
    async with engine.running():
        engine.queue.add(A)
        engine.queue.add(B)
        await engine.clock.settle()
    assert len(engine.passes) == 2
    assert engine.controller.stats().hook_errors == 2
    assert "the result hook failed on Mission/default/a" in caplog.text


async def test_workers_share_the_keys_and_the_stats_count_them() -> None:
    gate = asyncio.Event()

    async def reconcile(key: Key) -> Result:
        await gate.wait()
        return DONE

    engine = Engine(reconcile, workers=3)
    async with engine.running():
        for number in range(5):
            engine.queue.add(Key("Mission", "default", f"m-{number}"))
        await engine.clock.advance(2)
        stats = engine.controller.stats()
        assert (stats.active_workers, stats.workers, stats.queue.depth, stats.queue.in_flight) == (3, 3, 2, 3)
        assert stats.queue.longest_running_s == 2
        gate.set()
        await engine.clock.settle()
        stats = engine.controller.stats()
    assert stats.active_workers == 0
    assert stats.passes == {verdict: 5 if verdict is Verdict.DONE else 0 for verdict in Verdict}
    assert stats.durations.count == 5
    assert stats.durations.total == 6


async def test_passes_that_never_wait_leave_the_loop_to_others() -> None:
    """A reconciler that answers without ever suspending, over many keys: another task gets its turns in between."""
    engine = Engine(answers(DONE))
    turns_at: list[int] = []

    async def other() -> None:
        while len(engine.passes) < 100:
            turns_at.append(len(engine.passes))
            await engine.clock.sleep(0)

    async with engine.running():
        for number in range(100):
            engine.queue.add(Key("Mission", "default", f"m-{number}"))
        await other()
    assert len(turns_at) >= 100


async def test_stopping_finishes_what_runs_and_starts_nothing_new() -> None:
    async def reconcile(key: Key) -> Result:
        await engine.clock.sleep(10)
        return DONE

    engine = Engine(reconcile, workers=2)
    async with engine.running():
        for number in range(6):
            engine.queue.add(Key("Mission", "default", f"m-{number}"))
        await engine.clock.advance(5)
        engine.queue.add(Key("Mission", "default", "m-0"))
    assert engine.verdicts == [Verdict.DONE, Verdict.DONE]
    assert engine.clock.elapsed == 10


async def test_cancelling_a_controller_ends_its_passes_at_once() -> None:
    cleaned: list[Key] = []

    async def reconcile(key: Key) -> Result:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(key)
        return DONE

    engine = Engine(reconcile, workers=2)
    task = asyncio.create_task(engine.controller.run(engine.life))
    engine.queue.add(A)
    engine.queue.add(B)
    await engine.clock.settle()
    task.cancel()
    await engine.clock.settle()
    assert task.cancelled()
    assert sorted(cleaned) == [A, B]
    assert engine.controller.stats().cut_short == 2
    assert engine.queue.stats().in_flight == 0
    assert len(asyncio.all_tasks()) == 1


async def test_a_pass_that_swallows_its_cancellation_cannot_keep_the_controller_alive() -> None:
    async def reconcile(key: Key) -> Result:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return DONE

    engine = Engine(reconcile)
    task = asyncio.create_task(engine.controller.run(engine.life))
    engine.queue.add(A)
    await engine.clock.settle()
    task.cancel()
    await engine.clock.settle()
    assert task.cancelled()


async def test_a_worker_that_dies_ends_the_controller_with_its_error_and_the_key_comes_back() -> None:
    class Doom(BaseException):
        """Nothing that a pass may handle."""

    deaths = 0

    async def reconcile(key: Key) -> Result:
        nonlocal deaths
        if key == A and deaths == 0:
            deaths += 1
            raise Doom
        return DONE

    engine = Engine(reconcile, workers=2)
    engine.queue.add(A)
    engine.queue.add(B)
    with pytest.raises(Doom):
        await engine.clock.run(engine.controller.run(Lifecycle()))
    assert engine.queue.stats().in_flight == 0
    async with engine.running():
        await engine.clock.advance(1)
    assert [key for key, _ in engine.passes].count(A) == 2
    assert engine.controller.stats().cut_short >= 1


async def test_a_controller_without_workers_or_with_a_timeout_of_nothing_is_refused() -> None:
    clock = VirtualClock()
    queue: WorkQueue[Key] = WorkQueue(clock, random.Random(0))
    with pytest.raises(ValueError, match="at least one worker"):
        Controller("missions", answers(DONE), queue=queue, clock=clock, workers=0)
    with pytest.raises(ValueError, match="positive pass timeout"):
        Controller("missions", answers(DONE), queue=queue, clock=clock, timeout_s=0)


class Together:
    """Makes passes together, all but those of the names ``alone``; ``fault`` is raised once."""

    def __init__(self, *alone: str, fault: Exception | None = None) -> None:
        self.alone = alone
        self.fault = fault
        self.made: list[list[str]] = []

    def takes(self, key: Key) -> bool:
        return key.name not in self.alone

    async def __call__(self, keys: list[Key]) -> list[Result]:
        self.made.append([key.name for key in keys])
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        return [DONE for _ in keys]


async def made_with(together: Together, *names: str) -> tuple[list[str], list[str]]:
    """Which passes a controller with ``together`` made alone, and of which it told, for keys that are ready at once."""
    clock, alone, told = VirtualClock(), list[str](), list[str]()
    queue: WorkQueue[Key] = WorkQueue(clock, random.Random(0))

    async def one(key: Key) -> Result:
        alone.append(key.name)
        return DONE

    controller = Controller(
        "missions", one, queue=queue, clock=clock, workers=1, several=together, most=3,
        on_result=lambda outcome: told.append(outcome.key.name),
    )  # fmt: skip
    for name in names:
        queue.add(Key("Mission", "default", name))
    life = Lifecycle()
    task = asyncio.create_task(controller.run(life))
    await clock.settle()
    stats = controller.stats()
    assert (stats.queue.depth, stats.queue.in_flight, stats.active_workers) == (0, 0, 0)
    life.stopping.set()
    await clock.run(task)
    return alone, told


async def test_keys_that_are_ready_are_made_together_up_to_so_many() -> None:
    together = Together()
    assert await made_with(together, "a", "b", "c", "d") == ([], ["a", "b", "c", "d"])
    assert together.made == [["a", "b", "c"], ["d"]]


async def test_what_cannot_be_made_with_others_is_made_alone() -> None:
    together = Together("b")
    assert await made_with(together, "a", "b", "c") == (["b"], ["a", "b", "c"])
    assert together.made == [["a"], ["c"]]


async def test_passes_that_fail_together_are_made_one_by_one() -> None:
    together = Together(fault=errors.Conflict("somebody else was faster"))
    assert await made_with(together, "a", "b") == (["a", "b"], ["a", "b"])
    assert together.made == [["a", "b"]]
