"""A worker: fetches runs of one Pull executor, starts their programs here, and keeps its claims until they have ended.

It may be killed at any line. What it started goes on under the supervisor; the next life takes it up under the same
claim. A claim that is lost, or cannot be renewed for as long as its lease, ends the program: from then on the engine
may let somebody else work on the mission.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from remit_client.errors import BadAnswer, ClientError, EngineUnreachable, NotInScope, Problem, RateLimited, RunOver

from controllers.dispatch.command import CommandExecutor
from controllers.dispatch.executor import EndedRun, RunOrder, RunOutcome
from controllers.runs.verdict import Ending
from controllers.runtime.beneath import open_plain
from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock, wait_for_any
from controllers.worker.desk import Desk, HeldClaim
from controllers.worker.engine_link import EngineLink
from schemas import claims as wire
from schemas.base import DEFAULT_NAMESPACE
from schemas.errors import Retry, Terminal
from schemas.executor import Command, ExecutorSpec
from schemas.protocol import UsageSource
from schemas.run import RunReason, RunState

log = logging.getLogger(__name__)

WAIT_S = 25
PATIENCE_S = 60.0
"""How long a worker that was never taken goes on asking: its engine may read the specs that name it later."""
_RETRY_S = 2.0
_LONGEST_RETRY_S = 30.0
_OVER = (404, 409, 410)
KEEP_RUN_FILES = timedelta(days=7)


class WorkerRefused(Exception):
    """The engine does not take this worker; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks for what: ``executor`` is ``name`` or ``namespace/name``."""

    executor: str
    name: str
    slots: int


@dataclass(slots=True)
class _Held:
    claim: HeldClaim
    good_until: float  # on the monotonic clock: until then the engine keeps the claim for us
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    lost: str = ""  # why the claim does not count any more
    late: bool = False  # the lease ran out here without an answer; the engine may still take the end
    sent: dict[str, int] = field(default_factory=dict)


class Worker:
    """One process. ``say`` tells people what happens; ``new_key`` makes idempotency keys."""

    def __init__(
        self,
        identity: Identity,
        link: EngineLink,
        executor: CommandExecutor,
        desk: Desk,
        *,
        project: Path,
        clock: Clock,
        blocking: Blocking,
        new_key: Callable[[], str],
        say: Callable[[str], None],
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._patience_s = patience_s
        self._me = identity
        self._link = link
        self._executor = executor
        self._desk = desk
        self._project = project
        self._clock = clock
        self._blocking = blocking
        self._new_key = new_key
        self._say = say
        self._held: dict[str, _Held] = {}
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._fault: BaseException | None = None
        self._halt = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``, then take no more and wait for what runs. Raises WorkerRefused when the engine does not
        take this worker, at the start only after the patience; what runs is waited for first."""
        collector = asyncio.create_task(self._collect())
        try:
            await self._take_up()
            await self._executor.open()
            keeper = asyncio.create_task(self._tidy())
            try:
                await self._fetch(stop)
            finally:
                keeper.cancel()
                while self._held:
                    self._changed.clear()
                    self._say(f"waits for {len(self._held)} runs; a second signal leaves them to the next worker")
                    await wait_for_any(self._clock, None, self._changed, self._halt)
                    if self._halt.is_set():
                        break
            if self._fault is not None:
                raise self._fault
        finally:
            for task in (collector, *self._tasks):
                task.cancel()
            await asyncio.gather(collector, *self._tasks, return_exceptions=True)

    async def _tidy(self) -> None:
        """Delete, every hour, what is kept of runs that ended a week ago."""
        while True:
            await self._executor.prune(self._clock.now() - KEEP_RUN_FILES)
            await self._clock.sleep(3600.0)

    # Fetching.

    async def _take_up(self) -> None:
        """Go on with the claims of an earlier life: what was started is kept, what was not is given back."""
        for claim in await self._blocking.run(self._desk.held):
            if await self._blocking.run(self._executor.started, claim.run):
                self._say(f"takes up {claim.name}, started before")
                held = self._held[claim.run] = _Held(claim, self._clock.monotonic() + claim.lease_s)
                self._spawn(self._renew(held))
            else:
                await self._give_back(claim)

    async def _give_back(self, claim: HeldClaim) -> None:
        try:
            await self._link.release(claim.run, claim.fence, self._new_key())
        except ClientError as error:
            log.info("%s was not given back, its lease ends it: %s", claim.name, error)
        await self._blocking.run(self._desk.drop, claim.run)

    async def _fetch(self, stop: asyncio.Event) -> None:
        pause, reached, taken = _RETRY_S, False, False
        patient_until = self._clock.monotonic() + self._patience_s
        keys = await self._blocking.run(self._desk.open_asks)
        while not stop.is_set() and not self._halt.is_set():
            if len(self._held) >= self._me.slots:
                self._changed.clear()
                await wait_for_any(self._clock, None, self._changed, stop, self._halt)
                continue
            # A request without an answer is repeated under its key: it may have brought a claim.
            if not keys:
                keys.append(self._new_key())
                await self._blocking.run(self._desk.asking, keys[0])
            asked = self._clock.monotonic()
            asking = asyncio.create_task(self._ask(keys[0], WAIT_S if reached else 0))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({asking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not asking.done():
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                await self._hand_back(keys[0])
                return
            try:
                order = asking.result()
            except (EngineUnreachable, BadAnswer, RateLimited) as error:
                self._say(f"{error}; goes on trying")
                reached = False
                await wait_for_any(self._clock, pause, stop)
                pause = min(pause * 2, _LONGEST_RETRY_S)
                continue
            except WorkerRefused as error:
                left = patient_until - self._clock.monotonic()
                if taken or left <= 0:
                    raise
                self._say(f"{error}; asks again, for {left:.0f} s more")
                await wait_for_any(self._clock, min(pause, left), stop)
                pause = min(pause * 2, _LONGEST_RETRY_S)
                continue
            taken = True
            if not reached:
                self._say(f"waits for runs of {self._me.executor} at {self._link.url}, {self._me.slots} at a time")
            reached, pause = True, _RETRY_S
            if order is not None and order.run not in self._held:
                await self._take(order, max(asked, self._clock.monotonic() - order.lease_s / 2))
            await self._blocking.run(self._desk.asked, keys.pop(0))

    async def _hand_back(self, key: str) -> None:
        """After a request that was given up: what it may have brought goes back, as nothing new is started."""
        with contextlib.suppress(ClientError):
            order = await self._link.claim(self._me.executor, self._me.name, self._me.slots, key, 0)
            if order is not None:
                await self._link.release(order.run, order.fence, self._new_key())
            await self._blocking.run(self._desk.asked, key)

    async def _ask(self, key: str, wait_s: int) -> wire.Order | None:
        try:
            return await self._link.claim(self._me.executor, self._me.name, self._me.slots, key, wait_s)
        except RunOver as error:
            text = error.detail or str(error)
            raise WorkerRefused(f"the engine does not know this token: {text}") from error
        except NotInScope as error:
            raise WorkerRefused(f"{error.detail or error}") from error
        except RateLimited:
            raise
        except Problem as error:
            raise WorkerRefused(str(error)) from error

    async def _take(self, order: wire.Order, asked: float) -> None:
        command = None if order.command is None else Command.model_validate(order.command)
        grace_s = command.stop_grace.total_seconds() if command is not None else 10.0
        claim = HeldClaim(order.run, order.name, order.fence, order.lease_s, grace_s)
        await self._blocking.run(self._desk.hold, claim)
        self._say(f"starts {order.name} ({order.agent}, attempt {order.attempt})")
        # Before the start: its program may have ended by the time that the start returns.
        held = self._held[claim.run] = _Held(claim, asked + claim.lease_s)
        try:
            await self._executor.start(self._run_order(order))
        except (Retry, Terminal) as error:
            log.warning("%s could not be started: %s", order.name, error)
            self._say(f"could not start {order.name}: {error}")
            del self._held[claim.run]
            await self._give_back(claim)
            return
        self._spawn(self._renew(held))

    def _run_order(self, order: wire.Order) -> RunOrder:
        spec: dict[str, Any] = {"type": "Pull"}
        if order.command is not None:
            spec = ExecutorSpec.model_validate(
                {"type": "Command", "command": order.command, "timeout": f"{max(1, int(order.timeout_s))}s"}
            ).to_wire()
        return RunOrder(
            run_uid=order.run,
            run_name=order.name,
            namespace=order.namespace,
            attempt=order.attempt,
            executor_spec=spec,
            mission=order.mission,
            agent=order.agent,
            token=order.token,
            agent_url=self._link.url,
            project_root=self._project,
            deadline_s=order.timeout_s,
            redaction=order.redaction.value,
            executor_namespace=self._me.executor.rpartition("/")[0] or DEFAULT_NAMESPACE,
        )

    # Keeping.

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a fault in the worker", exc_info=task.exception())
            self._fault = self._fault or task.exception()
            self._halt.set()

    async def _renew(self, held: _Held) -> None:
        """Keep the claim until its program ended; end the program when the claim is lost or to be stopped."""
        claim = held.claim
        stopping = False
        while not held.ended.is_set():
            asked = self._clock.monotonic()
            left = held.good_until - asked
            try:
                async with asyncio.timeout(max(0.1, min(left, claim.lease_s / 2))):
                    answer = await self._link.renew(claim.run, claim.fence, started=True, key=self._new_key())
                held.good_until = asked + answer.lease_s
                if answer.cancel and not stopping:
                    stopping = True
                    self._say(f"stops {claim.name}: {answer.reason or 'on request'}")
                    await self._stop(claim)
                with contextlib.suppress(ClientError, TimeoutError):
                    async with asyncio.timeout(max(0.1, claim.lease_s / 3)):
                        await self._send_logs(held)
            except Problem as error:
                if error.status in _OVER:
                    held.lost = error.detail or str(error)
                    self._say(f"stops {claim.name}: {held.lost}")
                    await self._stop(claim)
                    return
                log.warning("%s: the claim could not be renewed: %s", claim.name, error)
            except (ClientError, TimeoutError) as error:
                log.warning("%s: the claim could not be renewed: %s", claim.name, error)
            if self._clock.monotonic() >= held.good_until and not held.ended.is_set():
                held.late = True
                self._say(f"stops {claim.name}: the engine was not reached for {claim.lease_s:g} s")
                await self._stop(claim)
                return
            pause = min(claim.lease_s / 3, max(0.05, held.good_until - self._clock.monotonic()))
            await wait_for_any(self._clock, min(pause, 10.0), held.ended)

    async def _stop(self, claim: HeldClaim) -> None:
        while True:
            try:
                await self._executor.cancel(claim.run, claim.grace_s)
                return
            except Retry as error:
                log.warning("%s could not be stopped yet: %s", claim.name, error)
                await self._clock.sleep(1.0)

    # Ending.

    async def _collect(self) -> None:
        async for ended in self._executor.outcomes():
            self._spawn(self._report(ended))

    async def _report(self, ended: EndedRun) -> None:
        """Tell the engine how a run ended, for as long as it takes, or learn that it is another's by now."""
        held = self._held.get(ended.run_uid)
        if held is None:  # given back, or reported by an earlier life that did not get to note it
            await self._executor.acknowledge(ended.run_uid)
            return
        held.ended.set()
        claim, pause = held.claim, 0.5
        while not held.lost:
            try:
                await self._send_logs(held)
                await self._link.end(claim.run, _end_message(ended.outcome, claim.fence, late=held.late))
                self._say(f"{claim.name} ended: {ended.outcome.state}")
                break
            except Problem as error:
                if error.status in _OVER:
                    held.lost = error.detail or str(error)
                    break
                log.warning("the end of %s could not be reported: %s", claim.name, error)
                if error.status not in (401, 429, 503):
                    self._say(f"the end of {claim.name} is not taken: {error}")
                    break
            except ClientError as error:
                log.warning("the end of %s could not be reported: %s", claim.name, error)
            await self._clock.sleep(pause)
            pause = min(pause * 2, _LONGEST_RETRY_S)
        if held.lost:
            self._say(f"{claim.name} ended, but not for us: {held.lost}")
        await self._executor.acknowledge(claim.run)
        await self._blocking.run(self._desk.drop, claim.run)
        self._held.pop(claim.run, None)
        self._changed.set()

    async def _send_logs(self, held: _Held) -> None:
        """Send what the engine does not have yet of both logs."""
        for stream, path in zip(("stdout", "stderr"), self._executor.logs(held.claim.run), strict=True):
            while True:
                offset = held.sent.get(stream, 0)
                data = await self._blocking.run(_part, path, offset)
                if not data:
                    break
                await self._link.log(held.claim.run, held.claim.fence, stream, offset, data, self._new_key())
                held.sent[stream] = offset + len(data)


def _part(path: Path, offset: int) -> bytes:
    try:
        with os.fdopen(open_plain(path), "rb") as file:
            file.seek(offset)
            return file.read(wire.MAX_LOG_PART)
    except OSError:
        return b""


def _end_message(outcome: RunOutcome, fence: int, *, late: bool) -> wire.EndMessage:
    ending = Ending.of(outcome)
    state, reason, message = ending.state, ending.reason, ending.message
    if late and state is RunState.CANCELED:
        state, reason = RunState.LOST, RunReason.WORKER_LOST
        message = "stopped by its worker, which could not reach the engine for as long as the lease"
    used = ending.usage
    usage = None
    if used is not None:
        usage = wire.EndUsage(
            usd=used.usd,
            input_tokens=used.input_tokens,
            output_tokens=used.output_tokens,
            source=UsageSource(used.source),
            model=ending.model[:1000],
            shares=tuple(
                wire.EndShare(
                    model=share.model[:1000],
                    usd=share.spend.usd,
                    input_tokens=share.spend.input_tokens,
                    output_tokens=share.spend.output_tokens,
                    cache_read_tokens=share.cache_read,
                    cache_write_tokens=share.cache_write,
                )
                for share in ending.shares[:50]
            ),
        )
    return wire.EndMessage(
        fence=fence,
        state=state,
        reason=reason,
        message=message[:10_000],
        retryable=ending.retryable or state is RunState.LOST,
        exit_code=ending.exit_code,
        deliverable=ending.artifacts[0].text if ending.artifacts else None,
        session_id=ending.session_id,
        usage=usage,
        started_at=ending.started_at,
        ended_at=ending.ended_at,
        log_bytes=ending.log_bytes,
        log_truncated=ending.log_truncated,
    )
