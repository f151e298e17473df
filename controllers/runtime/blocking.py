"""Where synchronous work runs: the store is synchronous, the engine is not."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Blocking(Protocol):
    """Runs a function that blocks, without blocking the event loop (or in place, in a simulation)."""

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of ``work(*args, **kwargs)``; its exception is raised here. The caller's context variables hold
        inside. Returns, also when cancelled, only once `work` has ended or is certain never to start: so whoever
        holds a key while it waits here holds it for as long as the work runs."""
        ...


def _call(context: contextvars.Context, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return context.run(work, *args, **kwargs)
    except StopIteration as error:
        # A future refuses StopIteration, and whoever awaits it would wait for ever.
        raise RuntimeError("StopIteration left a function that was run in a thread") from error


class ThreadBlocking:
    """Runs work in `threads` named threads, first come, first served.

    A thread cannot be interrupted: a cancelled `run` whose work has begun ends when the work does, and then raises
    CancelledError. So every blocking call inside needs a timeout of its own.
    """

    def __init__(self, threads: int, *, name: str = "remit-worker") -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Blocking.run`. RuntimeError after `close`."""
        job = self._pool.submit(_call, contextvars.copy_context(), work, *args, **kwargs)
        answer = asyncio.wrap_future(job)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            job.cancel()
            while not answer.done():
                try:
                    await asyncio.wait([answer])
                except asyncio.CancelledError:
                    continue  # asked again while the thread still works; the first wish is honoured below
            if not answer.cancelled():
                answer.exception()  # seen: what the work raised gives way to the cancellation
            raise

    def hand(self, work: Callable[[], T], then: Callable[[T | BaseException], None]) -> None:
        """Run ``work`` in a thread and call ``then`` with its result, or with what it raised, in the running event
        loop: no task waits, and the loop wakes up once. Nobody can cancel it. RuntimeError after `close`."""
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()

        def job() -> None:
            found: T | BaseException
            try:
                found = context.run(work)
            except BaseException as error:  # noqa: BLE001 - whoever waits is told
                found = error
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(then, found)

        self._pool.submit(job)

    def close(self, *, wait: bool = True) -> None:
        """Refuse new work and drop what has not begun. With `wait`, block until running work has ended. A process
        whose work never ends leaves with `os._exit`: the interpreter waits for pool threads at its end."""
        self._pool.shutdown(wait=wait, cancel_futures=True)


class InlineBlocking:
    """Runs work in place, for tests and deterministic simulation: no threads, one order of events.

    `before` (optional) is awaited ahead of each call: a simulation puts a seeded delay there, so that tasks interleave.
    """

    def __init__(self, before: Callable[[], Awaitable[object]] | None = None) -> None:
        self._before = before

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Blocking.run`."""
        if self._before is not None:
            await self._before()
        return _call(contextvars.copy_context(), work, *args, **kwargs)


def hand_over(blocking: Blocking, work: Callable[[], T], then: Callable[[T | BaseException], None]) -> None:
    """``ThreadBlocking.hand`` for any of them: elsewhere a task waits. ``then`` is never called at once."""
    if isinstance(blocking, ThreadBlocking):
        blocking.hand(work, then)
        return

    async def wait() -> None:
        try:
            found: T | BaseException = await blocking.run(work)
        except BaseException as error:  # noqa: BLE001 - whoever waits is told
            found = error
        then(found)

    task = asyncio.create_task(wait(), name="handed-over")
    _handed.add(task)
    task.add_done_callback(_handed.discard)


_handed: set[asyncio.Task[None]] = set()
"""Nobody else holds them, and the event loop forgets what nobody holds."""
