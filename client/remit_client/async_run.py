"""A run as its agent sees it: the mission, ways to report, and what the engine asks of it. For programs with asyncio;
``run.Run`` is the same for programs without."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import re
import sys
import traceback
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from types import TracebackType
from typing import Any, BinaryIO, Self, TypedDict, Unpack

import httpx2

from remit_client.assignment import Assignment
from remit_client.clock import Clock, SystemClock
from remit_client.connection import ANSWER_TIMEOUT_S, Connection
from remit_client.errors import Canceled, ClientError, Denied, EngineUnreachable, Failure, NotInScope, RunOver
from remit_client.protocol import (
    MAX_DECISION_WAIT_S,
    MAX_INBOX_WAIT_S,
    Call,
    Calls,
    Decision,
    Notice,
    Usage,
    read_decision,
    read_notices,
)
from remit_client.retry import RetryPolicy

DEFAULT_HEARTBEAT_S = 15.0
"""Half of what an Agent expects unless it declares otherwise (spec.heartbeat.interval, 30s)."""

_SHORTEST_HEARTBEAT_S = 0.5
_LAST_WORDS_S = 5.0
"""How long a stopping program tries to report: shorter than the 10 s that a Command gives it before the kill."""
_INBOX_PAUSE_S = 1.0
_KEPT_NOTICES = 1000
_KEPT_IDS = 10_000
_REASON = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")
_DURATION = re.compile(
    r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,6}(?:\.\d{1,3})?)s)?(?:(\d{1,9})ms)?", re.ASCII
)
_log = logging.getLogger("remit_client")


def _new_key() -> str:
    return uuid.uuid4().hex


class Options(TypedDict, total=False):
    """What a run may be opened with. ``clock``, ``chance`` (random in [0, 1)), ``new_key`` and ``transport`` are for
    tests."""

    heartbeat_s: float
    policy: RetryPolicy
    clock: Clock
    chance: Callable[[], float]
    new_key: Callable[[], str]
    transport: httpx2.AsyncBaseTransport
    answer_timeout_s: float


class AsyncRun:
    """One run, open inside ``async with``.

    While the block is open, a task sends heartbeats and reads the inbox; it survives restarts of the engine. Leaving
    the block by an exception reports the run as failed (see ``__aexit__``); leaving it otherwise reports nothing, so
    call ``complete`` or ``fail``.

    Every reporting method raises RunOver when the token is dead, NotInScope, Conflict, RateLimited or Rejected when
    the engine refuses, and EngineUnreachable when it stays silent for the retry window (2 minutes unless ``policy``
    says otherwise). Retries carry the idempotency key of the first try.

    ``heartbeat_s`` overrides the interval; without it, half of what the mission's JSON names in
    ``agent.heartbeatInterval``, at most 15 s.
    """

    def __init__(self, assignment: Assignment, **options: Unpack[Options]) -> None:
        self._assignment = assignment
        self._options = options
        self._calls = Calls(assignment.run)
        self._clock = options.get("clock") or SystemClock()
        self._new_key = options.get("new_key", _new_key)
        self._heartbeat_s = options.get("heartbeat_s", _interval(assignment.mission))
        self._connection: Connection | None = None
        self._pulse: asyncio.Task[None] | None = None
        self._stop_wanted = asyncio.Event()
        self._on_stop: list[Callable[[], None]] = []
        self._cancel_reason = ""
        self._draining = False
        self._over = False
        self._ended = False
        self._finishing = False
        self._notices: deque[Notice] = deque(maxlen=_KEPT_NOTICES)
        self._seen: dict[str, None] = {}
        self._untaken: dict[str, None] = {}
        self._arrived = asyncio.Event()
        self._in_hand = ""
        self._listeners: set[asyncio.Task[None]] = set()

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] | None = None, stdin: BinaryIO | None = None, **options: Unpack[Options]
    ) -> Self:
        """The run that this program was started for (see Assignment.from_environment). ``options`` are those of the
        constructor. Raises NotConfigured."""
        return cls(own_assignment(environ, stdin), **options)

    # What was handed over

    @property
    def id(self) -> str:
        """The run, as in the protocol's paths."""
        return self._assignment.run

    @property
    def mission(self) -> Mapping[str, Any]:
        """The mission's JSON: title, description, input, workPlan, feedback, attempt, dependencies and more."""
        return self._assignment.mission

    # What the engine asks for

    @property
    def canceled(self) -> bool:
        """Whether to stop now: a Cancel came, or the run's token is dead. Never becomes False again."""
        return self._stop_wanted.is_set()

    @property
    def cancel_reason(self) -> str:
        """Why to stop, for people; "" while not canceled or when no reason was given."""
        return self._cancel_reason

    @property
    def draining(self) -> bool:
        """Whether the agent is being drained: finish this run, then expect no other."""
        return self._draining

    @property
    def ended(self) -> bool:
        """Whether ``complete`` or ``fail`` was accepted, or the engine ended the run."""
        return self._ended or self._over

    def check(self) -> None:
        """Raise Canceled when the run is to stop. Cheap: call it in every loop."""
        if self.canceled:
            raise Canceled(self._cancel_reason or "stopped on request")

    def take_notices(self) -> list[Notice]:
        """Messages that came since the last call, oldest first, each once; Cancel and Drain are not among them. They
        count as delivered from then on."""
        taken = []
        with contextlib.suppress(IndexError):
            while True:
                taken.append(self._notices.popleft())
        for notice in taken:
            self._untaken.pop(notice.id, None)
        return taken

    async def next_message(self, timeout_s: float | None = None) -> Notice | None:
        """The next message, command or follow-up, oldest first; None after ``timeout_s`` seconds, and when the run is
        to stop or has ended. It counts as delivered when the one after it is asked for, or the run ends: a program that
        dies over it gets it again."""
        self._delivered()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self._notices and not self.canceled and not self.ended:
                    self._arrived.clear()
                    await self._arrived.wait()
        if not self._notices or self.canceled or self.ended:
            return None
        notice = self._notices.popleft()
        self._in_hand = notice.id
        return notice

    async def inbox(self) -> AsyncIterator[Notice]:
        """Every message, command and follow-up, as they come, until the run is to stop or has ended."""
        while (notice := await self.next_message()) is not None:
            yield notice

    def on_message(self, handler: Callable[[Notice], Awaitable[str | None]]) -> None:
        """Call ``handler`` with each message, one after the other, beside what the program does. What it returns is
        said as the answer; None or "" says nothing. What it raises is logged, and the next message follows. Not
        together with ``inbox``, ``next_message`` or ``take_notices``."""

        async def listen() -> None:
            async for notice in self.inbox():
                try:
                    answer = await handler(notice)
                    if answer:
                        await self.say(answer, in_reply_to=notice)
                except (RunOver, Canceled):
                    return
                except Exception:  # noqa: BLE001 - one message that cannot be dealt with must not silence the others
                    _log.exception("the handler of messages failed over one of type %s", notice.type)

        task = asyncio.get_running_loop().create_task(listen())
        self._listeners.add(task)
        task.add_done_callback(self._listeners.discard)

    def _delivered(self) -> None:
        self._untaken.pop(self._in_hand, None)
        self._in_hand = ""

    async def wait_canceled(self, timeout_s: float | None = None) -> bool:
        """Wait until the run is to stop, at most ``timeout_s`` seconds. Returns ``canceled``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._stop_wanted.wait()
        return self.canceled

    def add_stop_listener(self, listener: Callable[[], None]) -> None:
        """Call ``listener``, on the event loop, when the run is to stop; at once when it already is."""
        self._on_stop.append(listener)
        if self.canceled:
            listener()

    # Reporting

    async def heartbeat(self) -> None:
        """A sign of life. They are sent automatically; this is for programs that block the event loop."""
        self._hear(await self._send(self._calls.heartbeat(self._new_key())))

    async def progress(
        self, message: str, *, percent: float | None = None, work_plan: str | None = None, session_id: str | None = None
    ) -> None:
        """Say what is being done, how far it is (0..100) and, once, how it will be done. ``session_id`` names a session
        of your own: related work is told to go on with it, in REMIT_SESSION."""
        await self._send(self._calls.progress(self._new_key(), message, percent, work_plan, session_id))

    async def provider_refused(self, status: int, *, retry_after_s: float | None = None, message: str = "") -> None:
        """Say that the provider of the model refused (its HTTP ``status``; 429, 503 and 529 pause everybody who uses
        it), with its Retry-After. The run may wait and go on."""
        await self._send(self._calls.provider_refused(self._new_key(), status, retry_after_s, message))

    async def usage(
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
        """Report what was used since the last report; amounts add up. Leave out what is not known: of tokens without
        money the engine looks up the price, by the name of the model."""
        usage = Usage(usd, input_tokens, output_tokens, model, source, cache_read_tokens, cache_write_tokens)
        await self._send(self._calls.usage(self._new_key(), usage))

    async def authorize(
        self,
        tool: str,
        args: Mapping[str, Any] | None = None,
        *,
        target: str = "",
        usd: Decimal | float | int | str | None = None,
        key: str | None = None,
        wait_s: float | None = None,
    ) -> Decision:
        """Ask before a tool is used, and wait for as long as a person is asked (``wait_s`` at most). Returns the
        decision that allows the call, which then may be made once; tell what came of it with ``tool_result``.

        ``target`` and ``usd`` (an estimate) are shown to whoever is asked. ``key`` names the call: give one that comes
        out the same when the program is started again, and an answer that was given meanwhile is not lost. Raises
        Denied, Canceled when the run is to stop meanwhile, TimeoutError after ``wait_s``, and what reporting raises.
        """
        call = self._calls.authorize(key or self._new_key(), tool, args or {}, target, usd)
        until = None if wait_s is None else self._clock.monotonic() + wait_s
        decision = read_decision(await self._send(call))
        while decision.decision == "ask":
            self.check()
            left = MAX_DECISION_WAIT_S if until is None else until - self._clock.monotonic()
            if left <= 0:
                raise TimeoutError(f"nobody answered whether {tool} may be used: {decision.approval_request}")
            if decision.again:
                decision = read_decision(await self._send(call))
            else:
                decision = await self._decided(decision, min(MAX_DECISION_WAIT_S, max(1, int(left))))
        if not decision.allowed:
            raise Denied(
                f"{tool} was refused: {decision.reason}" + (f" ({decision.remedy})" if decision.remedy else ""),
                code=decision.code,
                rule=decision.rule,
                remedy=decision.remedy,
                decision_id=decision.id,
            )
        return decision

    async def _decided(self, decision: Decision, wait_s: int) -> Decision:
        asked = self._clock.monotonic()
        try:
            found = read_decision(await self._send(self._calls.decision(decision.id, wait_s)))
        except EngineUnreachable:
            found = decision  # a question outlives the engine that asked it
        # An engine that answers at once, as one that stops does, is not asked again in a tight circle.
        if found.decision == "ask" and not found.again and self._clock.monotonic() - asked < _INBOX_PAUSE_S:
            await self._clock.sleep(_INBOX_PAUSE_S)
        return found

    async def tool_result(
        self,
        tool: str,
        *,
        ok: bool = True,
        error: str = "",
        decision: Decision | None = None,
        output_digest: str = "",
        usd: Decimal | float | int | str | None = None,
    ) -> None:
        """Tell what came of a call, and what it cost; ``decision`` is the one that allowed it."""
        id_ = "" if decision is None else decision.id
        await self._send(self._calls.tool_result(self._new_key(), tool, ok, error, id_, output_digest, usd))

    async def artifact(self, name: str, content: str | bytes, media_type: str | None = None) -> None:
        """Keep something beside the deliverable. ``name`` is unique within the run; cite it as evidence. The media
        type is text/plain for text and application/octet-stream for bytes unless given."""
        await self._send(self._calls.artifact(self._new_key(), name, content, media_type))

    async def say(
        self, text: str, *, to: Sequence[str] = (), in_reply_to: Notice | None = None, thread: str = ""
    ) -> dict[str, Any]:
        """Say something. ``in_reply_to`` is the notice of type Message or Command that it answers; without it,
        ``thread="Project"`` says it in the project of the mission. ``state`` in the answer is Delivered, Pending (it
        goes out after a pause) or Blocked (too many without a person: it never does)."""
        answered = in_reply_to.id.removeprefix("message/") if in_reply_to is not None else None
        return await self._send(self._calls.say(self._new_key(), text, to, answered, thread))

    async def follow_up(self, after_s: float, text: str, *, say: bool = False) -> dict[str, Any]:
        """Be told ``text`` in ``after_s`` seconds, as a notice of type FollowUp; with ``say`` it is said to people
        instead, within the limits. It outlives this program and the engine, and is canceled when a person speaks
        before. Raises RateLimited while ten wait."""
        return await self._send(self._calls.follow_up(self._new_key(), after_s, text, say))

    async def offer(self, commands: Mapping[str, str]) -> None:
        """Say which commands this agent takes in chat: descriptions by name, without the slash. They come as notices of
        type Command; answer them with ``say(..., in_reply_to=notice)``."""
        await self._send(self._calls.commands(self._new_key(), commands))

    async def spawn(self, name: str, title: str, **wish: Any) -> dict[str, Any]:
        """Have another agent do a part of the mission. ``wish`` are further fields of the protocol, such as
        ``input={...}``, ``tools=[...]``, ``budget={"usd": "0.5"}``, ``ttlSeconds=600``; with ``hosted=True`` this
        program does the work itself, and the answer holds ``hostedRun`` and ``key``. Raises Conflict where asking again
        is no use, RateLimited while too many are alive."""
        return await self._send(self._calls.spawn(self._new_key(), name, title, wish))

    async def propose(
        self, kind: str, name: str, edits: Mapping[str, Any], *, title: str = "", reason: str = "", create: bool = False
    ) -> dict[str, Any]:
        """Propose a change of the specs: ``edits`` are new values by field, as in ``{"spec.limits.usd": 8}``; None
        takes a field away, ``create`` declares a new object. A person merges its branch, or not: the answer names it,
        and ``proposals`` tells what became of it. Raises Rejected for what this agent may not propose and for what
        would not compile (each with what to change), RateLimited while too many wait."""
        answer = await self._send(self._calls.propose(self._new_key(), kind, name, edits, title, reason, create))
        return dict(answer["proposal"])

    async def proposals(self) -> list[dict[str, Any]]:
        """What the agent proposed, in this run and before, the newest first. ``state`` says how people answered."""
        answer = await self._send(self._calls.proposals())
        return list(answer["items"])

    async def terminate(self, name: str, reason: str = "") -> None:
        """End a sub-agent of this run."""
        await self._send(self._calls.terminate(self._new_key(), name, reason))

    async def complete(
        self,
        content: str | bytes,
        *,
        self_review: str,
        name: str = "deliverable.md",
        media_type: str | None = "text/markdown",
        evidence: Sequence[str] = (),
        usage: Usage | None = None,
    ) -> dict[str, Any]:
        """Hand in the deliverable with the agent's own check of it; ``evidence`` names artifacts. Returns the engine's
        answer. Ends the run when accepted: heartbeats stop. A refusal (Conflict, Rejected) leaves it open."""
        call = self._calls.complete(name, content, media_type, self_review, evidence, usage)
        return await self._finish(call)

    async def fail(self, reason: str, message: str, *, retryable: bool = False) -> dict[str, Any]:
        """Give up. ``reason`` is a CamelCase word. Ends the run when accepted."""
        return await self._finish(self._calls.fail(reason_word(reason), message, retryable))

    async def _finish(self, call: Call, window_s: float | None = None) -> dict[str, Any]:
        self._finishing = True
        try:
            await self._deliver_last()
            answer = await self._send(call, window_s)
            self._ended = True
        finally:
            self._finishing = False
        self._arrived.set()
        await self._stop_pulse()
        return answer

    async def _send(self, call: Call, window_s: float | None = None) -> dict[str, Any]:
        if self._connection is None:
            raise RuntimeError("the run is not open: use it inside its with block")
        try:
            return await self._connection.send(call, window_s=window_s)
        except RunOver as error:
            self._set_over(error)
            raise

    # The block

    async def __aenter__(self) -> Self:
        if self._connection is not None or self._pulse is not None:
            raise RuntimeError("a run is opened once")
        self._connection = Connection(
            self._assignment,
            policy=self._options.get("policy") or RetryPolicy(),
            clock=self._clock,
            chance=self._options.get("chance", random.random),
            transport=self._options.get("transport"),
            answer_timeout_s=self._options.get("answer_timeout_s", ANSWER_TIMEOUT_S),
        )
        self._pulse = asyncio.create_task(self._beat(self._connection), name="remit-pulse")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Report an exception as the run's failure and close.

        A Failure is reported in its own words. Of anything else only the class and the place are reported, never its
        text or a traceback: they may hold secrets. The exception itself goes on; when it could not be reported, it
        carries a note that says so.
        """
        try:
            if error is not None and not self.ended:
                await self._report(error)
        finally:
            connection, self._connection = self._connection, None
            try:
                await self._stop_pulse()
                await self._stop_listening()
            finally:
                if connection is not None:
                    await connection.aclose()

    async def _report(self, error: BaseException) -> None:
        if isinstance(error, SystemExit) and error.code in (None, 0):
            return
        reason, message, retryable = describe_failure(error)
        # Whoever stops the program, or has just waited for the engine in vain, does not wait for another two minutes.
        patient = isinstance(error, Exception) and not isinstance(error, Canceled | ClientError)
        try:
            await self._finish(self._calls.fail(reason, message, retryable), None if patient else _LAST_WORDS_S)
        except ClientError as problem:
            error.add_note(f"Remit could not be told that the run failed: {problem}")

    async def _stop_pulse(self) -> None:
        if self._pulse is not None and self._pulse is not asyncio.current_task():
            self._pulse.cancel()
            # Not awaited directly: its cancellation could not be told from one of this task.
            await asyncio.wait([self._pulse])

    async def _stop_listening(self) -> None:
        current = asyncio.current_task()
        listening = [task for task in self._listeners if task is not current]
        for task in listening:
            task.cancel()
        if listening:
            await asyncio.wait(listening)

    # The pulse: heartbeats and the inbox

    async def _beat(self, connection: Connection) -> None:
        """Until the run is over. An engine that is away is waited for, for as long as the program runs."""
        due = self._clock.monotonic()
        inbox = True
        while not self._over:
            try:
                if self._clock.monotonic() >= due:
                    self._hear(await connection.send(self._calls.heartbeat(self._new_key())))
                    due = self._clock.monotonic() + self._heartbeat_s
                if inbox and due > self._clock.monotonic():
                    await self._read_inbox(connection, due)
                else:
                    await self._clock.sleep(max(0.0, due - self._clock.monotonic()))
            except RunOver as error:
                self._set_over(error)
            except NotInScope:
                inbox = False  # an engine without an inbox; heartbeats are worth sending all the same
                await self._clock.sleep(_INBOX_PAUSE_S)
            except ClientError:
                await self._clock.sleep(_INBOX_PAUSE_S)
            except Exception:  # noqa: BLE001 - whatever it is, a run without heartbeats would be taken for dead
                _log.warning("the heartbeat of run %s stumbled and goes on", self.id, exc_info=True)
                await self._clock.sleep(_INBOX_PAUSE_S)

    async def _read_inbox(self, connection: Connection, due: float) -> None:
        asked = self._clock.monotonic()
        wait_s = min(MAX_INBOX_WAIT_S, int(due - asked))
        answer = await connection.send(self._calls.inbox(wait_s, *self._known()))
        news = [self._take(notice) for notice in read_notices(answer)]
        # An engine that answers at once, or repeats what is known, is not asked again in a tight circle.
        now = self._clock.monotonic()
        if not any(news) and now < due and now - asked < _INBOX_PAUSE_S:
            await self._clock.sleep(min(_INBOX_PAUSE_S, due - now))

    def _known(self) -> tuple[list[str], list[str]]:
        """Ids that are delivered, and those that the program has not taken yet."""
        return [id_ for id_ in self._seen if id_ not in self._untaken], list(self._untaken)

    async def _deliver_last(self) -> None:
        """Say what was delivered, before the last word ends the run; what is not said comes again in the next one."""
        self._delivered()
        connection = self._connection
        if connection is None or not any(id_.startswith("message/") for id_ in self._seen if id_ not in self._untaken):
            return
        with contextlib.suppress(ClientError):
            await connection.send(self._calls.inbox(0, *self._known()), window_s=_LAST_WORDS_S)

    def _hear(self, answer: Mapping[str, Any]) -> None:
        # The heartbeat repeats a cancel without its words; the inbox, asked next, would wait for nothing else.
        if answer.get("cancel") is True:
            self._want_stop("")

    def _take(self, notice: Notice) -> bool:
        if notice.id in self._seen:
            return False
        self._seen[notice.id] = None
        if len(self._seen) > _KEPT_IDS:
            del self._seen[next(iter(self._seen))]
        if notice.type == "Cancel":
            self._want_stop(notice.text)
        elif notice.type == "Drain":
            self._draining = True
        else:
            self._untaken[notice.id] = None
            self._notices.append(notice)
            self._arrived.set()
        return True

    def _set_over(self, error: RunOver) -> None:
        self._over = True
        self._arrived.set()
        # The engine may kill the token as it accepts the last report, before that answer has arrived.
        if not self._ended and not self._finishing:
            self._want_stop(error.detail or "the run is over")

    def _want_stop(self, reason: str) -> None:
        self._cancel_reason = self._cancel_reason or reason
        if self._stop_wanted.is_set():
            return
        self._stop_wanted.set()
        self._arrived.set()
        for listener in self._on_stop:
            listener()


def own_assignment(environ: Mapping[str, str] | None, stdin: BinaryIO | None) -> Assignment:
    """The assignment of this very program, unless others are given. Raises NotConfigured."""
    if stdin is None and sys.stdin is not None:
        stdin = sys.stdin.buffer
    return Assignment.from_environment(os.environ if environ is None else environ, stdin)


def describe_failure(error: BaseException) -> tuple[str, str, bool]:
    """What is reported of an exception: reason, message, retryable. Only a Failure speaks for itself."""
    if isinstance(error, Failure):
        return reason_word(error.reason), error.message, error.retryable
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else 1
        return "SystemExit", f"the agent's program left with exit code {code}", True
    name = type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    return reason_word(name), f"the agent's program ended with {name}{place}; its log may say more", True


def reason_word(text: str) -> str:
    """``text`` as a CamelCase word: a class name such as ``_Lost`` or ``error`` becomes ``Lost`` or ``Error``."""
    parts = [part for part in re.split(r"[^A-Za-z0-9]+", text) if part]
    word = "".join(part[0].upper() + part[1:] for part in parts)[:63]
    return word if _REASON.fullmatch(word) else "Failed"


def _interval(mission: Mapping[str, Any]) -> float:
    """Half of what the mission's agent declares, so that one lost heartbeat is not missed; at most 15 s."""
    agent = mission.get("agent")
    declared = agent.get("heartbeatInterval") if isinstance(agent, Mapping) else None
    match = _DURATION.fullmatch(declared) if isinstance(declared, str) else None
    if match is None:
        return DEFAULT_HEARTBEAT_S
    seconds = sum(
        float(part or 0) * unit for part, unit in zip(match.groups(), (86_400, 3600, 60, 1, 0.001), strict=True)
    )
    return max(_SHORTEST_HEARTBEAT_S, min(DEFAULT_HEARTBEAT_S, seconds / 2))
