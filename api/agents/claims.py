"""The endpoints of workers: how they fetch runs of a Pull executor, keep them, and bring them to their end."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from api.agents.bodies import Bodies, idempotency_key, parse
from api.agents.callers import CHALLENGE, bearer
from api.agents.limits import AgentLimits, Places, TokenBuckets
from api.agents.runs import answer_with, watch_client
from api.agents.wakes import OFFERS, Wakes
from api.problems import Problem
from controllers.effects import claims
from controllers.effects.runs import RunContext
from controllers.holds import stops as other
from controllers.holds.stops import Stops
from controllers.runs import artifacts, records
from controllers.runs.artifacts import ArtifactFiles
from controllers.runs.once import Once
from controllers.runs.tokens import RunTokens
from controllers.runs.verdict import Share
from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock, wait_for_any
from schemas import claims as wire
from schemas.base import DEFAULT_NAMESPACE, Key
from schemas.errors import Refused, StoreUnavailable
from schemas.executor import ExecutorSpec, ExecutorType
from schemas.mission import Artifact, Spend
from schemas.policy import Redaction
from schemas.protocol import Receipt
from schemas.resource import Actor, ActorKind, Resource
from schemas.run import ENDED, RunSpec, RunState, RunStatus
from store.contract import Snapshot, Store

WorkerTokens = Callable[[Resource], str | None]
"""The token of the workers of an Executor; None when it has none. Blocks."""

_WHOSE = "the worker's token: Authorization: Bearer TOKEN"
_MOST_LOG = 1_073_741_824
_WORKER_ENDS = (RunState.SUCCEEDED, RunState.FAILED, RunState.TIMED_OUT, RunState.CANCELED, RunState.LOST)


@dataclass(frozen=True, slots=True)
class ClaimVerb:
    """A write about a claim."""

    name: str
    message: type[BaseModel]
    receipt: type[BaseModel]
    summary: str
    large: bool = False


CLAIM = ClaimVerb("claim", wire.ClaimMessage, wire.ClaimAnswer, "Fetch a run")
CLAIM_VERBS = (
    ClaimVerb("renew", wire.RenewMessage, wire.RenewAnswer, "Keep a claim, and hear whether the run is to stop"),
    ClaimVerb("release", wire.ReleaseMessage, Receipt, "Give back a run that was not started"),
    ClaimVerb("log", wire.LogMessage, Receipt, "Hand in a part of what the program wrote"),
    ClaimVerb("end", wire.EndMessage, Receipt, "Report the end of the program: the last word on a claim", large=True),
)


@dataclass(frozen=True, slots=True)
class _Worker:
    """A caller whose token was checked, and the executors that the token is for."""

    executors: tuple[Resource, ...]

    @property
    def actor(self) -> Actor:
        first = self.executors[0]
        return Actor(ActorKind.AGENT, f"worker:{first.namespace}/{first.name}", "Token")


class ClaimEndpoints:
    """Answers for one store. Everything that blocks runs in threads; belongs to one event loop."""

    def __init__(
        self,
        store: Store,
        tokens: RunTokens,
        worker_token: WorkerTokens,
        files: ArtifactFiles,
        state_dir: Path,
        *,
        clock: Clock,
        blocking: Blocking,
        limits: AgentLimits,
        wakes: Wakes,
        stops: Stops = other.NONE,
    ) -> None:
        self._store = store
        self._worker_token = worker_token
        self._files = files
        self._runs = state_dir / "runs"
        self._clock = clock
        self._blocking = blocking
        self._wakes = wakes
        self._context = RunContext(tokens, lambda: "", state_dir, stops)
        self._bodies = Bodies(limits, clock)
        self._polls = Places(limits.worker_polls, "long polls")
        self._refusals = TokenBuckets(limits.requests_per_s, limits.burst, clock.monotonic)
        self._buckets = TokenBuckets(limits.requests_per_s, limits.burst, clock.monotonic)
        self._handlers: dict[str, Callable[[_Worker, Resource, Any, Once], BaseModel]] = {
            "renew": self._renew,
            "release": self._release,
            "log": self._log,
            "end": self._end,
        }

    async def claim(self, request: Request, wait_s: int) -> Response:
        """A run for the worker, at once when one is offered, else as soon as one is, else none after ``wait_s``."""
        worker = await self._admit(request)
        key = idempotency_key(request)
        async with self._bodies.read(request, large=False) as body:
            message = parse(wire.ClaimMessage, body)
        namespace, _, name = message.executor.rpartition("/")
        wanted = Key("Executor", namespace or DEFAULT_NAMESPACE, name)
        executor = next((e for e in worker.executors if e.key == wanted), None)
        if executor is None:
            known = ", ".join(f"{e.namespace}/{e.name}" for e in worker.executors)
            text = f"this token is for the executor {known}, not for {wanted.namespace}/{wanted.name}"
            raise Problem(404, "ExecutorNotFound", text)
        self._within_rate(f"{executor.uid}/{message.worker}")
        with self._polls.taken(f"{executor.uid}/{message.worker}"):
            claimed = await self._wait(request, worker, executor, message, key, wait_s)
        return answer_with(wire.ClaimAnswer(order=None if claimed is None else _order(claimed)))

    async def write(self, verb: ClaimVerb, request: Request, run_uid: str) -> Response:
        """One write about a claim. Raises Problem, RemitError (see ``to_problem``)."""
        worker = await self._admit(request)
        key = idempotency_key(request)
        self._within_rate(f"run/{run_uid[:40]}")
        async with self._bodies.read(request, large=verb.large) as body:
            receipt = await self._blocking.run(self._apply, verb, worker, run_uid, key, body)
        return answer_with(receipt)

    def _within_rate(self, name: str) -> None:
        wait_s = self._buckets.take(name)
        if wait_s:
            raise Problem(429, "TooManyRequests", "this worker asks too often", retry_after_s=wait_s)

    async def _admit(self, request: Request) -> _Worker:
        token = bearer(request, _WHOSE)
        executors = await self._blocking.run(self._executors_of, token)
        if executors:
            return _Worker(executors)
        # Only those who guess are slowed down, so that they cannot lock anybody out.
        wait_s = self._refusals.take("")
        if wait_s:
            raise Problem(429, "TooManyRequests", "too many false tokens", retry_after_s=wait_s)
        text = "no Executor of type Pull has this worker token: compare it with what its spec.pull.auth names"
        raise Problem(401, "WorkerTokenInvalid", text, headers=CHALLENGE)

    def _executors_of(self, token: str) -> tuple[Resource, ...]:
        given = hashlib.sha256(token.encode()).digest()
        with self._store.snapshot() as snapshot:
            executors = [e for e in snapshot.objects("Executor") if e.spec.get("type") == ExecutorType.PULL]
        found = []
        for executor in executors:
            right = self._worker_token(executor)
            if right is not None and hmac.compare_digest(hashlib.sha256(right.encode()).digest(), given):
                found.append(executor)
        return tuple(found)

    async def _wait(
        self, request: Request, worker: _Worker, executor: Resource, message: wire.ClaimMessage, key: str, wait_s: int
    ) -> claims.Claimed | None:
        until = self._clock.monotonic() + wait_s
        gone = asyncio.Event()
        watch = asyncio.create_task(watch_client(request, gone))
        try:
            async with self._wakes.waiting(OFFERS) as news:
                while True:
                    news.clear()
                    claimed = await self._blocking.run(self._claim, worker, executor.key, message, key)
                    left = until - self._clock.monotonic()
                    if claimed is not None or left <= 0 or gone.is_set() or self._wakes.closing.is_set():
                        return claimed
                    await wait_for_any(self._clock, left, news, gone, self._wakes.closing)
                    if gone.is_set():
                        return None  # nobody would hear of a claim that is made now
        finally:
            watch.cancel()

    def _claim(self, worker: _Worker, executor: Key, message: wire.ClaimMessage, key: str) -> claims.Claimed | None:
        now = self._clock.now()
        with self._store.snapshot() as snapshot:
            current = snapshot.get(executor)
            if current is None:
                return None
            idle = (
                not claims.saw_is_due(current, message.worker, message.slots, now)
                and claims.claimed_with(snapshot, executor, message.worker, key) is None
                and not claims.offered(snapshot, executor, now)
            )
        if idle:
            return None
        with self._store.transaction(worker.actor) as tx:
            claims.saw(tx, executor, message.worker, message.slots)
            current = tx.get(executor)
            if current is None or current.deletion_at is not None:
                return None
            return claims.claim(tx, current, message.worker, key, self._context)

    def _apply(self, verb: ClaimVerb, worker: _Worker, run_uid: str, key: str, body: bytes) -> BaseModel:
        message = parse(verb.message, body)
        with self._store.snapshot() as snapshot:
            executor = self._executor_of(snapshot, worker, run_uid)
        return self._handlers[verb.name](worker, executor, _Write(run_uid, message), Once.of(key, b"claim", body))

    def _executor_of(self, snapshot: Snapshot, worker: _Worker, run_uid: str) -> Resource:
        run = snapshot.get_by_uid(run_uid)
        if run is not None and run.kind == "Run":
            key = RunSpec.model_validate(run.spec).executor_ref.key("Executor", run.namespace)
            for executor in worker.executors:
                if executor.key == key:
                    return executor
        raise Problem(404, "NotFound", "this token's executor has no run of that uid")

    def _renew(self, worker: _Worker, executor: Resource, write: _Write, once: Once) -> wire.RenewAnswer:
        message: wire.RenewMessage = write.message
        with self._store.transaction(worker.actor) as tx:
            run, seconds = claims.renew(tx, executor.key, write.run, message.fence, started=message.started)
            status = RunStatus.model_validate(run.status)
            assert status.claim is not None
            claims.saw(tx, executor.key, status.claim.worker)
        cancel = status.cancel_requested_at is not None
        return wire.RenewAnswer(
            run=write.run, lease_s=seconds, cancel=cancel, reason=status.cancel_reason if cancel else ""
        )

    def _release(self, worker: _Worker, executor: Resource, write: _Write, once: Once) -> Receipt:
        with self._store.transaction(worker.actor) as tx:
            claims.release(tx, executor.key, write.run, write.message.fence)
        return Receipt(run=write.run)

    def _log(self, worker: _Worker, executor: Resource, write: _Write, once: Once) -> Receipt:
        message: wire.LogMessage = write.message
        data = message.base64
        if len(data) > wire.MAX_LOG_PART or message.offset + len(data) > _MOST_LOG:
            text = f"a part has at most {wire.MAX_LOG_PART:,} bytes, and a log {_MOST_LOG:,}"
            raise Refused(text, reason="LogTooLarge")
        with self._store.snapshot() as snapshot:
            run, _ = claims.require(snapshot, executor.key, write.run, message.fence)
        _write_part(self._runs / run.uid, f"{message.stream}.log", message.offset, data)
        return Receipt(run=write.run)

    def _end(self, worker: _Worker, executor: Resource, write: _Write, once: Once) -> Receipt:
        message: wire.EndMessage = write.message
        if message.state not in _WORKER_ENDS:
            raise Problem(422, "Invalid", "state is Succeeded, Failed, TimedOut, Canceled or Lost")
        with self._store.snapshot() as snapshot:
            run = snapshot.get_by_uid(write.run)
            if run is not None and _was_ended_by(run, once):
                return Receipt(run=write.run)
            run, _ = claims.require(snapshot, executor.key, write.run, message.fence)
        ending = records.prepare(self._store, self._files, write.run, _ending(run, message))
        with self._store.transaction(worker.actor) as tx:
            run = tx.get_by_uid(write.run)
            if run is not None and _was_ended_by(run, once):
                return Receipt(run=write.run)
            run, _ = claims.require(tx, executor.key, write.run, message.fence)
            status = RunStatus.model_validate(run.status)
            tx.put_status(run, status.model_copy(update={"seen_keys": once.remembered(status)}).to_wire())
            claims.end(tx, write.run, ending)
        return Receipt(run=write.run)


@dataclass(frozen=True, slots=True)
class _Write:
    """A message about the claim on a run."""

    run: str
    message: Any


def _was_ended_by(run: Resource, once: Once) -> bool:
    """Whether this very request ended the run: its answer was lost, and it is repeated."""
    status = RunStatus.model_validate(run.status)
    return status.state in ENDED and once.seen(status)


def _order(claimed: claims.Claimed) -> wire.Order:
    order = claimed.order
    spec = ExecutorSpec.model_validate(order.executor_spec)
    timeout_s = spec.timeout.total_seconds()
    return wire.Order(
        run=order.run_uid,
        name=order.run_name,
        namespace=order.namespace,
        attempt=order.attempt,
        agent=order.agent,
        token=order.token,
        mission=order.mission,
        command=None if spec.program is None else spec.program.to_wire(),
        timeout_s=timeout_s if order.deadline_s is None else min(timeout_s, order.deadline_s),
        redaction=Redaction(order.redaction),
        fence=claimed.fence,
        lease_s=claimed.lease_s,
    )


def _ending(run: Resource, message: wire.EndMessage) -> records.Ending:
    handed_in: tuple[Artifact, ...] = ()
    if message.deliverable is not None:
        data = message.deliverable.encode()
        digest = artifacts.digest_of(data)
        handed_in = (
            Artifact(name="deliverable", size=len(data), digest=digest, text=message.deliverable, run=run.name),
        )
    used = message.usage
    usage = None
    if used is not None:
        usd: Decimal | None = used.usd
        usage = Spend(
            usd=usd, input_tokens=used.input_tokens, output_tokens=used.output_tokens, source=used.source.value
        )
    return records.Ending(
        state=message.state,
        reason=message.reason,
        message=message.message,
        retryable=message.retryable,
        exit_code=message.exit_code,
        usage=usage,
        model="" if used is None else used.model,
        shares=() if used is None else tuple(_share(share, used.source.value) for share in used.shares),
        artifacts=handed_in,
        session_id=message.session_id,
        started_at=message.started_at,
        ended_at=message.ended_at,
        log_bytes=message.log_bytes,
        log_truncated=message.log_truncated,
    )


def _share(share: wire.EndShare, source: str) -> Share:
    usd: Decimal | None = share.usd
    spend = Spend(usd=usd, input_tokens=share.input_tokens, output_tokens=share.output_tokens, source=source)
    return Share(share.model, spend, share.cache_read_tokens, share.cache_write_tokens)


def _write_part(folder: Path, name: str, offset: int, data: bytes) -> None:
    """Write a part of a log in its place. Raises Refused when a part before it is missing, StoreUnavailable."""
    try:
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            size = os.fstat(file).st_size
            if offset > size:
                raise Refused(f"the log has {size} bytes: send what follows them first", reason="LogGap")
            while data:
                written = os.pwrite(file, data, offset)
                data, offset = data[written:], offset + written
        finally:
            os.close(file)
    except OSError as error:
        raise StoreUnavailable(f"the log {folder / name} cannot be written: {error.strerror}") from error
