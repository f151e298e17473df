"""A run for programs without asyncio: the same AsyncRun, on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from decimal import Decimal
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar, Unpack

from remit_client.assignment import Assignment
from remit_client.async_run import AsyncRun, Options, own_assignment
from remit_client.protocol import Decision, Notice, Usage

T = TypeVar("T")


class Run:
    """One run, open inside ``with``. Every member means what it means on AsyncRun; methods block until the engine has
    answered and may be called from any thread. Heartbeats go on while the program computes.

    Example::

        with Run.from_environment() as run:
            run.progress("reading", percent=10)
            text = work(run.mission["input"])
            run.complete(text, self_review="Read twice; every figure has its source.")
    """

    def __init__(self, assignment: Assignment, **options: Unpack[Options]) -> None:
        self._inner = AsyncRun(assignment, **options)
        self._canceled = threading.Event()
        self._inner.add_stop_listener(self._canceled.set)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._finished: asyncio.Event | None = None

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] | None = None, stdin: BinaryIO | None = None, **options: Unpack[Options]
    ) -> Self:
        """See AsyncRun.from_environment."""
        return cls(own_assignment(environ, stdin), **options)

    @property
    def id(self) -> str:
        """See AsyncRun.id."""
        return self._inner.id

    @property
    def mission(self) -> Mapping[str, Any]:
        """See AsyncRun.mission."""
        return self._inner.mission

    @property
    def canceled(self) -> bool:
        """See AsyncRun.canceled."""
        return self._inner.canceled

    @property
    def cancel_reason(self) -> str:
        """See AsyncRun.cancel_reason."""
        return self._inner.cancel_reason

    @property
    def draining(self) -> bool:
        """See AsyncRun.draining."""
        return self._inner.draining

    @property
    def ended(self) -> bool:
        """See AsyncRun.ended."""
        return self._inner.ended

    def check(self) -> None:
        """See AsyncRun.check."""
        self._inner.check()

    def take_notices(self) -> list[Notice]:
        """See AsyncRun.take_notices."""
        return self._inner.take_notices()

    def wait_canceled(self, timeout_s: float | None = None) -> bool:
        """See AsyncRun.wait_canceled."""
        self._canceled.wait(timeout_s)
        return self.canceled

    def heartbeat(self) -> None:
        """See AsyncRun.heartbeat; only for programs that hold the interpreter lock for minutes."""
        self._wait(self._inner.heartbeat())

    def progress(
        self, message: str, *, percent: float | None = None, work_plan: str | None = None, session_id: str | None = None
    ) -> None:
        """See AsyncRun.progress."""
        self._wait(self._inner.progress(message, percent=percent, work_plan=work_plan, session_id=session_id))

    def provider_refused(self, status: int, *, retry_after_s: float | None = None, message: str = "") -> None:
        """See AsyncRun.provider_refused."""
        self._wait(self._inner.provider_refused(status, retry_after_s=retry_after_s, message=message))

    def usage(
        self,
        *,
        usd: Decimal | float | int | str | None = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        model: str | None = None,
        source: str = "Reported",
        cache_read_tokens: int | None = None,
        cache_write_tokens: int | None = None,
    ) -> None:
        """See AsyncRun.usage."""
        self._wait(
            self._inner.usage(
                usd=usd,
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                model=model,
                source=source,
                cache_read_tokens=cache_read_tokens,
                cache_write_tokens=cache_write_tokens,
            )
        )

    def authorize(
        self,
        tool: str,
        args: Mapping[str, Any] | None = None,
        *,
        target: str = "",
        usd: Decimal | float | int | str | None = None,
        key: str | None = None,
        wait_s: float | None = None,
    ) -> Decision:
        """See AsyncRun.authorize."""
        return self._wait(self._inner.authorize(tool, args, target=target, usd=usd, key=key, wait_s=wait_s))

    def tool_result(
        self,
        tool: str,
        *,
        ok: bool = True,
        error: str = "",
        decision: Decision | None = None,
        output_digest: str = "",
        usd: Decimal | float | int | str | None = None,
    ) -> None:
        """See AsyncRun.tool_result."""
        self._wait(
            self._inner.tool_result(tool, ok=ok, error=error, decision=decision, output_digest=output_digest, usd=usd)
        )

    def artifact(self, name: str, content: str | bytes, media_type: str | None = None) -> None:
        """See AsyncRun.artifact."""
        self._wait(self._inner.artifact(name, content, media_type))

    def say(
        self, text: str, *, to: Sequence[str] = (), in_reply_to: Notice | None = None, thread: str = ""
    ) -> dict[str, Any]:
        """See AsyncRun.say."""
        return self._wait(self._inner.say(text, to=to, in_reply_to=in_reply_to, thread=thread))

    def follow_up(self, after_s: float, text: str, *, say: bool = False) -> dict[str, Any]:
        """See AsyncRun.follow_up."""
        return self._wait(self._inner.follow_up(after_s, text, say=say))

    def offer(self, commands: Mapping[str, str]) -> None:
        """See AsyncRun.offer."""
        self._wait(self._inner.offer(commands))

    def next_message(self, timeout_s: float | None = None) -> Notice | None:
        """See AsyncRun.next_message."""
        return self._wait(self._inner.next_message(timeout_s))

    def inbox(self) -> Iterator[Notice]:
        """See AsyncRun.inbox."""
        while (notice := self.next_message()) is not None:
            yield notice

    def on_message(self, handler: Callable[[Notice], str | None]) -> None:
        """See AsyncRun.on_message; the handler runs in a thread and may use this run."""

        async def handled(notice: Notice) -> str | None:
            return await asyncio.to_thread(handler, notice)

        async def register() -> None:
            self._inner.on_message(handled)

        self._wait(register())

    def spawn(self, name: str, title: str, **wish: Any) -> dict[str, Any]:
        """See AsyncRun.spawn."""
        return self._wait(self._inner.spawn(name, title, **wish))

    def propose(
        self, kind: str, name: str, edits: Mapping[str, Any], *, title: str = "", reason: str = "", create: bool = False
    ) -> dict[str, Any]:
        """See AsyncRun.propose."""
        return self._wait(self._inner.propose(kind, name, edits, title=title, reason=reason, create=create))

    def proposals(self) -> list[dict[str, Any]]:
        """See AsyncRun.proposals."""
        return self._wait(self._inner.proposals())

    def terminate(self, name: str, reason: str = "") -> None:
        """See AsyncRun.terminate."""
        self._wait(self._inner.terminate(name, reason))

    def complete(
        self,
        content: str | bytes,
        *,
        self_review: str,
        name: str = "deliverable.md",
        media_type: str | None = "text/markdown",
        evidence: Sequence[str] = (),
        usage: Usage | None = None,
    ) -> dict[str, Any]:
        """See AsyncRun.complete."""
        return self._wait(
            self._inner.complete(
                content, self_review=self_review, name=name, media_type=media_type, evidence=evidence, usage=usage
            )
        )

    def fail(self, reason: str, message: str, *, retryable: bool = False) -> dict[str, Any]:
        """See AsyncRun.fail."""
        return self._wait(self._inner.fail(reason, message, retryable=retryable))

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise RuntimeError("a run is opened once")
        ready = threading.Event()
        # A daemon, so that a program that is killed inside the block is not held back by its own heartbeats.
        self._thread = threading.Thread(target=self._serve, args=(ready,), name="remit-run", daemon=True)
        self._thread.start()
        ready.wait()
        try:
            self._wait(self._inner.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See AsyncRun.__aexit__."""
        try:
            if self._loop is not None:
                self._wait(self._inner.__aexit__(kind, error, trace))
        finally:
            self._stop()

    def _serve(self, ready: threading.Event) -> None:
        async def until_finished() -> None:
            self._loop = asyncio.get_running_loop()
            self._finished = asyncio.Event()
            ready.set()
            await self._finished.wait()

        try:
            asyncio.run(until_finished())
        finally:
            ready.set()  # also when there is no event loop to be had: __enter__ must not wait for ever

    def _stop(self) -> None:
        loop, thread, finished = self._loop, self._thread, self._finished
        self._loop = None
        if loop is not None and thread is not None and finished is not None:
            loop.call_soon_threadsafe(finished.set)
            thread.join()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            raise RuntimeError("the run is not open: use it inside its with block")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C or a signal ended the wait, not the work: nothing may stay behind on the loop.
            future.cancel()
            raise
