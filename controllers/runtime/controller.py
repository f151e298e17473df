"""The controller: workers that take keys from a queue, run the pass, and do what its answer asks (see `result`)."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from controllers.runtime.clock import Clock, Deadline
from controllers.runtime.lifecycle import Lifecycle
from controllers.runtime.metrics import Histogram, HistogramSnapshot
from controllers.runtime.result import Done, Outcome, RequeueAfter, RequeueAt, Result, Verdict, verdict_of
from controllers.runtime.workqueue import QueueStats, ShutDown, WorkQueue
from schemas import errors

K = TypeVar("K", bound=Hashable)

log = logging.getLogger(__name__)

RECALLED_IN_A_ROW = 64
"""Answers that are recalled in one turn of the loop."""
CONFLICT_RETRIES = 3
"""A lost compare-and-swap means "read again, decide again": worth this many tries at once, then it is contention."""
_FAILURES = frozenset({Verdict.RETRY, Verdict.CONFLICT, Verdict.TIMEOUT, Verdict.PANIC})


@dataclass(frozen=True, slots=True)
class ControllerStats:
    """Counters since the start of the process. `passes` has every verdict as a key, zero included; `recalled` of them
    were answered without being made. `conflicts` counts lost compare-and-swaps, also those that a retry at once made
    good; `hook_errors` the exceptions of `on_result`; `cut_short` the passes that ended by cancellation."""

    passes: dict[Verdict, int]
    recalled: int
    conflicts: int
    hook_errors: int
    cut_short: int
    active_workers: int
    workers: int
    durations: HistogramSnapshot
    queue: QueueStats


class Several(Protocol[K]):
    """Makes several passes at once, all or none."""

    def takes(self, key: K) -> bool:
        """Whether the pass of ``key`` can be made with others."""

    async def __call__(self, keys: list[K]) -> list[Result]:
        """The answers, in the order of the keys. Whatever it raises, the passes are made one by one instead."""


class Controller(Generic[K]):
    """Runs `reconcile` for the keys of `queue`, in `workers` at a time.

    `reconcile` reads by key and may be run twice at any point with the same outcome. It answers with a `Result` or
    an exception; no exception ends a worker. A pass longer than `timeout_s` is cancelled; one that cannot be (it
    waits for a thread) keeps its key to itself until it ends, and shows up in `problem` meanwhile. `on_result` is
    called after every pass, on the event loop: keep it short; what it raises is logged and counted.

    `recall` is asked first, on the event loop: it gives the answer of a pass that need not be made (see `recall`), or
    None. `several` makes the passes of up to `most` keys that are ready together.
    """

    def __init__(
        self,
        name: str,
        reconcile: Callable[[K], Awaitable[Result]],
        *,
        queue: WorkQueue[K],
        clock: Clock,
        workers: int = 4,
        timeout_s: float | None = 60.0,
        on_result: Callable[[Outcome[K]], object] | None = None,
        recall: Callable[[K], Result | None] | None = None,
        several: Several[K] | None = None,
        most: int = 1,
    ) -> None:
        if workers < 1:
            raise ValueError(f"controller {name} needs at least one worker")
        if timeout_s is not None and timeout_s <= 0:
            raise ValueError(f"controller {name} needs a positive pass timeout, or None")
        self.name = name
        self.queue = queue
        self._reconcile = reconcile
        self._clock = clock
        self._workers = workers
        self._timeout_s = timeout_s
        self._on_result = on_result
        self._recall = recall
        self._several = several
        self._most = most
        self._passes = dict.fromkeys(Verdict, 0)
        self._recalled = self._conflicts = self._hook_errors = self._cut_short = self._active = 0
        self._durations = Histogram()

    async def run(self, life: Lifecycle) -> None:
        """Work until `life.stopping` is set; then finish the passes that run and return. Waiting keys are left: the
        store knows them, and the next start lists them. Cancelling ends running passes at once.

        Raises what ended a worker, which only a defect of the queue or the end of the process can; the key that it
        held is put back. May be called again then.
        """
        workers = [asyncio.create_task(self._work(), name=f"{self.name}-{n}") for n in range(self._workers)]
        stopping = asyncio.create_task(life.stopping.wait())
        try:
            life.ready()
            await asyncio.wait([stopping, *workers], return_when=asyncio.FIRST_COMPLETED)
            if life.stopping.is_set():
                self.queue.shutdown(drain=False)
                await asyncio.gather(*workers)
            for worker in workers:
                if worker.done():
                    worker.result()
        finally:
            for task in (stopping, *workers):
                task.cancel()
            await asyncio.gather(stopping, *workers, return_exceptions=True)

    def problem(self) -> str:
        """ "" or what a person should know: a pass that runs much longer than its timeout."""
        stats = self.queue.stats()
        if self._timeout_s is None or stats.longest_running_s <= 2 * self._timeout_s:
            return ""
        return (
            f"{self.name}: a pass of {stats.longest_running} runs since {stats.longest_running_s:.0f} s and does not "
            f"end at its timeout of {self._timeout_s:g} s"
        )

    def stats(self) -> ControllerStats:
        """What this controller has done."""
        return ControllerStats(
            passes=dict(self._passes),
            recalled=self._recalled,
            conflicts=self._conflicts,
            hook_errors=self._hook_errors,
            cut_short=self._cut_short,
            active_workers=self._active,
            workers=self._workers,
            durations=self._durations.snapshot(),
            queue=self.queue.stats(),
        )

    async def _work(self) -> None:
        while True:
            try:
                key = await self.queue.get()
            except ShutDown:
                return
            if self._recall is not None and self._answered(key, self._recall):
                if self._recalled % RECALLED_IN_A_ROW == 0:
                    await self._clock.sleep(0)
                continue
            left = self._with_others(key)
            self._active += 1
            try:
                outcomes = await self._together(left)
                while left:
                    outcome = outcomes.popleft() if outcomes else await self._pass(left[0])
                    key = left.popleft()
                    if not left:
                        self._active -= 1
                    self.queue.done(key)
                    self._tell(outcome)
            finally:
                self._active -= bool(left)
                for key in left:
                    # Cut short: nobody knows how far it came, so it is looked at again (unless the queue closes).
                    self._cut_short += 1
                    self.queue.add_rate_limited(key)
                    self.queue.done(key)
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # The pass swallowed the cancellation that was meant for this worker.
                raise asyncio.CancelledError
            # A pass that never waits would keep the loop from everything else.
            await self._clock.sleep(0)

    def _with_others(self, key: K) -> deque[K]:
        """The key, and others that are ready and have to be made; only the last may be one to make alone."""
        keys = deque([key])
        while self._several is not None and len(keys) < self._most and self._several.takes(keys[-1]):
            other = self.queue.get_nowait()
            if other is None:
                break
            if self._recall is None or not self._answered(other, self._recall):
                keys.append(other)
        return keys

    async def _together(self, keys: Iterable[K]) -> deque[Outcome[K]]:
        """What came of those that were made together; none of them, where that failed."""
        shared = [key for key in keys if self._several is not None and self._several.takes(key)]
        if self._several is None or not shared:
            return deque()
        started = self._clock.monotonic()
        try:
            async with Deadline(self._clock, self._timeout_s):
                results = await self._several(shared)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return deque()
        except Exception as error:  # noqa: BLE001 - each says for itself what is wrong with it
            log.debug("%s: %d passes are made one by one: %s", self.name, len(shared), error)
            return deque()
        share_s = (self._clock.monotonic() - started) / len(shared)
        outcomes: deque[Outcome[K]] = deque()
        for key, result in zip(shared, results, strict=True):
            verdict = Verdict.DONE if isinstance(result, Done) else Verdict.REQUEUED
            outcomes.append(Outcome(key, verdict, share_s, None, self._follow(key, verdict, result)))
        return outcomes

    def _answered(self, key: K, recall: Callable[[K], Result | None]) -> bool:
        """Whether the pass of `key` need not be made, and its answer was followed."""
        try:
            result = recall(key)
        except Exception:
            log.exception("%s: the answer of %s cannot be recalled", self.name, key)
            return False
        if result is None:
            return False
        verdict = Verdict.DONE if isinstance(result, Done) else Verdict.REQUEUED
        self._recalled += 1
        self._passes[verdict] += 1
        after_s = self._follow(key, verdict, result)
        self.queue.done(key)
        if self._on_result is not None:
            self._hook(Outcome(key, verdict, 0.0, None, after_s))
        return True

    async def _pass(self, key: K) -> Outcome[K]:
        """One key, with the retries at once after a conflict. Raises only what has to end the worker."""
        started = self._clock.monotonic()
        for _ in range(CONFLICT_RETRIES):
            verdict, answer = await self._attempt(key)
            if verdict is not Verdict.CONFLICT:
                break
            self._conflicts += 1
            await self._clock.sleep(0)
        else:
            verdict, answer = await self._attempt(key)
            self._conflicts += verdict is Verdict.CONFLICT
        after_s = self._follow(key, verdict, answer)
        duration_s = self._clock.monotonic() - started
        error = answer if isinstance(answer, BaseException) else None
        return Outcome(key, verdict, duration_s, error, after_s)

    async def _attempt(self, key: K) -> tuple[Verdict, Result | BaseException]:
        deadline = Deadline(self._clock, self._timeout_s)
        try:
            async with deadline:
                result = await self._reconcile(key)
            if isinstance(result, Done):
                return Verdict.DONE, result
            if isinstance(result, RequeueAfter | RequeueAt):
                return Verdict.REQUEUED, result
            raise TypeError(f"the pass of {key} returned {type(result).__name__}, which is not a Result")
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled this worker: something inside the pass was cancelled and let the error out.
            return Verdict.PANIC, error
        except Exception as error:  # noqa: BLE001 - a defect in one pass is that key's failure, not the engine's
            # Whatever the cancellation at the deadline was turned into on its way out, the pass was too long.
            return (Verdict.TIMEOUT if deadline.expired else verdict_of(error)), error

    def _follow(self, key: K, verdict: Verdict, answer: Result | BaseException) -> float | None:
        """Tell the queue; returns when the key runs again by itself, in seconds."""
        if verdict in _FAILURES:
            after = answer.after if isinstance(answer, errors.Retry) else None
            return self.queue.add_rate_limited(key, after=after)
        if verdict is Verdict.PARKED:
            self.queue.park(key)
            return None
        self.queue.forget(key)
        if isinstance(answer, RequeueAfter):
            after_s = answer.seconds
        elif isinstance(answer, RequeueAt):
            after_s = max(0.0, (answer.when - self._clock.now()).total_seconds())
        else:
            return None
        self.queue.add_after(key, after_s)
        return after_s

    def _tell(self, outcome: Outcome[K]) -> None:
        self._passes[outcome.verdict] += 1
        self._durations.observe(outcome.duration_s)
        place = (self.name, outcome.key)
        match outcome.verdict:
            case Verdict.PANIC:
                log.error("%s: the pass of %s failed unexpectedly", *place, exc_info=outcome.error)
            case Verdict.TIMEOUT:
                log.warning("%s: the pass of %s: %s", *place, outcome.error)
            case Verdict.PARKED | Verdict.RETRY | Verdict.CONFLICT:
                log.info("%s: the pass of %s: %s: %s", *place, outcome.verdict, outcome.error)
            case _:
                log.debug("%s: the pass of %s: %s", *place, outcome.verdict)
        self._hook(outcome)

    def _hook(self, outcome: Outcome[K]) -> None:
        if self._on_result is None:
            return
        try:
            self._on_result(outcome)
        except Exception:
            self._hook_errors += 1
            log.exception("%s: the result hook failed on %s", self.name, outcome.key)
