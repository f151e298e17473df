"""PostRun, PollRun and StopPost: the requests to workers behind HTTP and to A2A services. What the store makes of them
is in ``posts``."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from controllers.dispatch.dialect import Dialect, Heard, Meaning, Request, limits_of
from controllers.dispatch.environment import SecretMissing, SecretSource, SecretUnavailable
from controllers.effects import posts
from controllers.effects.runner import Again, Commit
from controllers.effects.runs import RunContext, end_run, order_of
from controllers.runs import output_check, records
from controllers.runs.artifacts import ArtifactFiles, room_inline
from controllers.runs.redaction_level import redactor_of
from controllers.runtime.backoff import Backoff
from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock
from controllers.web.client import HttpClient
from controllers.web.reply import Fate, Reply
from schemas.errors import Refused
from schemas.executor import ExecutorRetry
from schemas.mission import Artifact
from schemas.resource import SYSTEM, canonical_json
from schemas.run import RunReason, RunState
from store.contract import Effect, Store, Transaction

LOOK_AGAIN_S = 5.0
"""Longest pause before it is looked again whether a worker that was left alone may be sent runs."""
IN_FLIGHT_S = 0.5
SECRET_RETRY_S = 15.0
_STOP_PAUSES = Backoff(initial_s=1.0, maximum_s=30.0)


@dataclass(frozen=True, slots=True)
class _Ready:
    """How a run is posted. ``first`` is asked before, to learn where."""

    start: Request
    headers: dict[str, str]
    first: Request | None
    first_headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Kept:
    """A deliverable that came with an answer, kept; ``problem`` is "" when it counts."""

    artifact: Artifact | None = None
    problem: str = ""


class HttpRuns:
    """Handlers of the outbox for runs that are posted."""

    def __init__(
        self,
        store: Store,
        context: RunContext,
        *,
        client: HttpClient,
        secrets: SecretSource,
        files: ArtifactFiles,
        blocking: Blocking,
        clock: Clock,
        random: Random,
    ) -> None:
        self._store = store
        self._context = context
        self._client = client
        self._secrets = secrets
        self._files = files
        self._blocking = blocking
        self._clock = clock
        self._random = random

    # Posting.

    async def post(self, effect: Effect) -> Commit | Again | None:
        """Post the run of a PostRun effect."""
        uid = str(effect.payload["runUid"])
        try:
            ready = await self._blocking.run(self._prepare, uid)
        except SecretMissing as missing:
            ending = records.Ending(
                state=RunState.FAILED, reason=RunReason.SECRET_NOT_FOUND, message=str(missing), retryable=False
            )
            return lambda tx: end_run(tx, uid, ending)
        except SecretUnavailable as passing:
            return Again(passing.after or SECRET_RETRY_S, str(passing))
        if ready is None:
            return None
        begun = await self._blocking.run(self._begin, uid)
        if begun is None:
            return None
        if isinstance(begun, posts.Until):
            wait_s = (begun.at - self._clock.now()).total_seconds()
            # Who else waits for the trial is to go on soon after it has ended well.
            return Again(min(max(wait_s, 0.05), LOOK_AGAIN_S), "its circuit breaker is open")
        dialect = begun.dialect
        request, reply, heard = await self._post(dialect, ready)
        if heard.stuck:
            # Best effort: the run ends here, whatever the service makes of it.
            await self._tell(dialect, begun, heard)
        kept = await self._blocking.run(self._keep, uid, heard)
        tries, retry = begun.post.tries, begun.executor_spec.retry
        ends, pause_s = self._judge(heard, tries, retry, idempotent=dialect.idempotent, safe=begun.safe)
        commit = functools.partial(
            posts.book, run_uid=uid, reply=reply, heard=heard, request=request, ending=ends,
            deliverable=kept.artifact, problem=kept.problem,
        )  # fmt: skip
        return commit if pause_s is None else Again(pause_s, heard.why, commit)

    def _prepare(self, uid: str) -> _Ready | None:
        """Everything that the request needs; None when there is none to make. Raises SecretMissing,
        SecretUnavailable, Terminal."""
        with self._store.snapshot() as snapshot:
            found = posts.find(snapshot, uid)
            if found is None:
                return None
            order = order_of(snapshot, found.run, self._context)
        dialect = found.dialect
        granted = self._granted(order.executor_namespace or order.namespace, order.namespace)

        def made(body: bytes) -> dict[str, str]:
            now = self._clock.now()
            return dialect.headers(granted, self._project, run=uid, key=found.key, body=body, now=now)

        start, first = dialect.start(order, found.key, dialect.service.url), dialect.find()
        return _Ready(start, made(start.body), first, made(first.body) if first is not None else {})

    async def _post(self, dialect: Dialect, ready: _Ready) -> tuple[Request, Reply, Heard]:
        """Send it; what was sent last, how that went, and what it means."""
        limits, start = limits_of(dialect.service), ready.start
        if ready.first is not None:
            reply = await self._client.send(ready.first.method, ready.first.url, ready.first_headers, None, limits)
            place = dialect.read_find(reply)
            if isinstance(place, Heard):
                return ready.first, reply, place
            start = replace(start, url=place)
        reply = await self._client.send(start.method, start.url, ready.headers, start.body, limits)
        return start, reply, dialect.read_start(reply, start.url)

    def _begin(self, uid: str) -> posts.Posted | posts.Until | None:
        with self._store.transaction(SYSTEM) as tx:
            return posts.begin(tx, uid, self._context.stops)

    def _judge(
        self, heard: Heard, tries: int, retry: ExecutorRetry, *, idempotent: bool, safe: bool
    ) -> tuple[records.Ending | None, float | None]:
        """How the run ends with this reply, if it does, and after how many seconds it is posted again, if it is."""
        again = heard.meaning in (Meaning.BUSY, Meaning.DOWN) or (heard.meaning is Meaning.UNKNOWN and idempotent)
        if again and tries < retry.max_attempts:
            pauses = Backoff(
                max(0.01, retry.backoff.initial.total_seconds()),
                max(0.01, retry.backoff.initial.total_seconds(), retry.backoff.max.total_seconds()),
                jitter=float(retry.backoff.jitter),
            )
            return None, max(pauses.delay(tries, self._random), heard.after_s or 0.0)
        if heard.meaning is Meaning.UNKNOWN:
            return posts.lost(heard.why, safe=safe), None
        if again or heard.meaning is Meaning.TURNED_DOWN:
            times = f" {tries} times" if tries > 1 else ""
            text = f"its worker did not take it{times}: {heard.why}"
            ending = records.Ending(state=RunState.FAILED, reason=RunReason.START_FAILED, message=text, retryable=again)
            return ending, None
        return None, None

    # Asking for the result.

    async def poll(self, effect: Effect) -> Commit | Again | None:
        """Ask for the result of the run of a PollRun effect, over and over until there is one."""
        uid = str(effect.payload["runUid"])
        found = await self._blocking.run(self._find, uid)
        if found is None or found.status.report is not None:
            return None
        dialect = found.dialect
        request = dialect.poll(found.post)
        if request is None:
            return None
        reply = await self._ask(found, request)
        heard = dialect.read_poll(reply)
        interval_s = dialect.service.poll_interval.total_seconds()
        if heard.meaning is Meaning.BUSY:
            return Again(max(interval_s, heard.after_s or 0.0), heard.why)
        if heard.meaning is Meaning.RUNNING:
            return Again(interval_s, "", functools.partial(posts.progress, run_uid=uid, heard=heard))
        kept = await self._blocking.run(self._keep, uid, heard)
        if heard.stuck:
            await self._tell(dialect, found, heard)

        def commit(tx: Transaction) -> None:
            run = posts.find(tx, uid)
            if run is None:
                return
            posts.note(tx, run.run, run.spec, request, reply, heard.problem)
            if heard.meaning is Meaning.UNKNOWN:
                posts.lose(tx, run, heard.why)
            else:
                posts.conclude(tx, uid, heard, kept.artifact, kept.problem)

        return commit

    # Stopping.

    async def stop(self, effect: Effect) -> Commit | Again | None:
        """Tell the worker of a StopPost effect's run to stop, until it confirms or the run has ended otherwise."""
        uid = str(effect.payload["runUid"])
        found = await self._blocking.run(self._find, uid)
        if found is None:
            return None
        if found.post.sent_at is not None:
            return Again(IN_FLIGHT_S, "it is being posted")  # told now, the worker might get it afterwards
        request = found.dialect.cancel(uid, found.post)
        if request is None:
            return None
        reply = await self._ask(found, request)
        confirmed = found.dialect.stopped(reply)

        def commit(tx: Transaction) -> None:
            run = posts.find(tx, uid)
            if run is None:
                return
            posts.note(tx, run.run, run.spec, request, reply, "" if confirmed else "not confirmed")
            if confirmed:
                posts.stopped(tx, uid)

        if confirmed:
            return commit
        told = max(1, found.post.requests - found.post.tries + 1)
        return Again(_STOP_PAUSES.delay(min(told, 10), self._random), "not confirmed", commit)

    # Both.

    def _find(self, uid: str) -> posts.Posted | None:
        with self._store.snapshot() as snapshot:
            return posts.find(snapshot, uid)

    async def _ask(self, found: posts.Posted, request: Request) -> Reply:
        run, dialect = found.run, found.dialect
        try:
            made = await self._blocking.run(
                dialect.headers, self._granted(found.executor.namespace, run.namespace), self._project,
                run=run.uid, key=found.post.key, body=request.body, now=self._clock.now(),
            )  # fmt: skip
        except (SecretMissing, SecretUnavailable) as error:
            return Reply(Fate.NOT_SENT, 0, str(error))
        return await self._client.send(
            request.method, request.url, made, request.body or None, limits_of(dialect.service)
        )

    async def _tell(self, dialect: Dialect, found: posts.Posted, heard: Heard) -> None:
        """Tell a service that its run is over here."""
        known = {"task": heard.task, "status_url": heard.status_url or found.post.status_url}
        request = dialect.cancel(found.run.uid, found.post.model_copy(update=known))
        if request is not None:
            await self._ask(found, request)

    def _keep(self, uid: str, heard: Heard) -> _Kept:
        """Keep the deliverable of an answer, and check it. Idempotent; blocks."""
        answer = heard.answer
        if heard.meaning is not Meaning.SUCCEEDED or answer is None or answer.deliverable is None:
            return _Kept()
        with self._store.snapshot() as snapshot:
            found = posts.find(snapshot, uid)
            if found is None:
                return _Kept()
            schema, redactor = output_check.output_schema(snapshot, found.spec), redactor_of(snapshot, found.run)
        text = answer.deliverable if isinstance(answer.deliverable, str) else canonical_json(answer.deliverable)
        data = text.encode("utf-8", "replace")
        kind = "text/plain" if isinstance(answer.deliverable, str) else "application/json"
        try:
            kept = self._files.keep(
                uid, found.run.name, "deliverable", kind, data, inline=room_inline(found.status), redactor=redactor,
                namespace=found.run.namespace,
            )  # fmt: skip
        except Refused as error:
            return _Kept(problem=str(error))
        return _Kept(kept, output_check.check_output(schema, data))

    def _granted(self, *namespaces: str) -> SecretSource:
        return self._secrets.of(*namespaces)

    @property
    def _project(self) -> Path:
        return self._context.project_root

    def give_up(self, tx: Transaction, effect: Effect, message: str) -> None:
        """A run that cannot be posted for good ends; one that may have been is lost."""
        found = posts.find(tx, str(effect.payload["runUid"]))
        if found is None or effect.type != posts.POST:
            return
        if found.post.sent_at is not None:
            posts.lose(tx, found, message)
            return
        ending = records.Ending(state=RunState.FAILED, reason=RunReason.START_FAILED, message=message)
        end_run(tx, found.run.uid, ending)
