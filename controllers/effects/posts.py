"""Runs that are posted to a worker behind HTTP, or to an A2A service: what the store knows of each, and how it comes to
its end.

A run is posted by the effect ``post/<run uid>``, its result is asked for by ``poll/<run uid>``, its worker told to stop
by ``stop/<run uid>``; any engine on the store may carry them out. Before a request leaves, the run says that it is out
(``status.post.sentAt``), in a transaction of its own. An engine that finds a request out which another life of it sent
knows that the worker may have it: it posts the run again, under the same Idempotency-Key, only to a worker that is
declared idempotent; else the outcome is Unknown. How the requests themselves are made is in ``http_runs``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from controllers.dispatch.dialect import Dialect, Heard, Meaning, Request, idempotency_key, without_secrets
from controllers.dispatch.http import dialect_of
from controllers.effects.runs import end_run
from controllers.holds.stops import Stops
from controllers.runs import inbox, records, reports
from controllers.runs.once import Once
from controllers.runs.run_record import RunRecord
from controllers.runs.text import MESSAGE, line
from controllers.runs.verdict import Share
from controllers.runtime.result import DONE, RequeueAt, Result
from controllers.web.reply import Reply
from decisions import circuit as circuits
from schemas.base import Key
from schemas.errors import Refused
from schemas.event import EventType
from schemas.executor import Circuit, ExecutorSpec, ExecutorStatus
from schemas.hold import HoldMode
from schemas.mission import Artifact, Spend
from schemas.resource import Resource
from schemas.run import ENDED, Post, PostAttempt, RunReason, RunSpec, RunState, RunStatus
from store.contract import Snapshot, Transaction

KIND = "Post"
"""Key kind that watches over a posted run: Post/<namespace>/<run>."""
POST, POLL, STOP = "PostRun", "PollRun", "StopPost"
STOP_WAIT = timedelta(seconds=30)
"""So long after its deadline a worker may take to confirm that it stopped; then nobody knows what it does."""
TRIAL_MARGIN = timedelta(seconds=30)
"""Beside the wait for its answer: the time after which the engine that carried out a trial is taken for dead."""
LOGGED = 20
"""The latest requests that a run shows; the event log has all of them."""
_TIMER = "post"


@dataclass(frozen=True, slots=True)
class Posted:
    """A run and how it is carried: its record, the executor it was pinned to, that one's spec."""

    run: Resource
    status: RunStatus
    spec: RunSpec
    executor: Key
    executor_spec: ExecutorSpec
    dialect: Dialect
    safe: bool
    """Whether its mission says that repeating the work is safe."""

    @property
    def key(self) -> str:
        """Its Idempotency-Key."""
        return idempotency_key(self.spec.mission_uid, self.spec.number)

    @property
    def post(self) -> Post:
        """What is known of its requests."""
        return self.status.post or Post(key=self.key)


@dataclass(frozen=True, slots=True)
class Until:
    """A run that is not posted yet: look again then."""

    at: datetime


def offer(tx: Transaction, run_uid: str) -> None:
    """Have the run posted, once."""
    run = tx.get_by_uid(run_uid)
    if run is not None:
        tx.enqueue(POST, f"post/{run_uid}", run.key, {"runUid": run_uid})


def find(snapshot: Snapshot, run_uid: str) -> Posted | None:
    """An open run; None when it has ended or is gone, or what it was pinned to is."""
    run = snapshot.get_by_uid(run_uid)
    if run is None or run.state in {state.value for state in ENDED}:
        return None
    spec = RunSpec.model_validate(run.spec)
    key = spec.executor_ref.key("Executor", run.namespace)
    executor = snapshot.get(key)
    version = None if executor is None else snapshot.spec_at(executor.uid, spec.executor_generation)
    if version is None:
        return None
    executor_spec = ExecutorSpec.model_validate(version.spec)
    dialect = dialect_of(executor_spec)
    if dialect is None:
        return None
    pinned = snapshot.spec_at(spec.mission_uid, spec.mission_generation)
    safe = pinned is not None and bool(pinned.spec.get("retry", {}).get("idempotent"))
    return Posted(run, RunStatus.model_validate(run.status), spec, key, executor_spec, dialect, safe)


def begin(tx: Transaction, run_uid: str, stops: Stops) -> Posted | Until | None:
    """Say that the run is about to be posted. None when there is nothing to post (any more), and ``Until`` while the
    worker is left alone. A run that is to stop, or that a Hold stops, is not posted."""
    found = find(tx, run_uid)
    if found is None or found.post.accepted_at is not None or found.status.report is not None:
        return None
    post = found.post
    held = inbox.held(tx, found.run, tx.now, stops)
    halted = found.status.cancel_requested_at is not None or (held is not None and held.mode is HoldMode.STOP)
    if post.sent_at is not None:  # by a life of the engine that did not get to see the answer
        if not found.dialect.idempotent:
            lose(tx, found, "the engine ended while the run was posted")
            return None
        if halted:
            _put(tx, found.run, post.model_copy(update={"accepted_at": post.sent_at, "sent_at": None}))
            stop(tx, found.run)
            return None
    elif halted:
        withdraw(tx, run_uid)
        return None
    wait = _admitted(tx, found)
    if wait is not None:
        waits = {"waits_for": str(found.executor), "waits_until": wait}
        record = RunRecord(tx, found.run)
        record.put(post=post.model_copy(update=waits))
        text = f"{found.executor.short} is left alone for a while: its circuit breaker is open"
        record.judge(None, RunReason.PENDING, text)
        if record.changed:
            record.save()
        return Until(wait)
    deadline = post.deadline or tx.now + found.spec.timeout
    out = {"sent_at": tx.now, "tries": post.tries + 1, "deadline": deadline, "waits_for": "", "waits_until": None}
    tx.set_timer(timer_key(found.run), _TIMER, deadline)
    _put(tx, found.run, post.model_copy(update=out))
    return find(tx, run_uid)


def book(
    tx: Transaction, run_uid: str, reply: Reply, heard: Heard, *, request: Request, ending: records.Ending | None,
    deliverable: Artifact | None, problem: str,
) -> None:  # fmt: skip
    """Take in how posting a run went. ``ending`` ends it; None leaves it open, to be posted again or to be worked on.
    ``deliverable`` is what came with the answer, kept, and ``problem`` what ``check_output`` says of it."""
    run = tx.get_by_uid(run_uid)
    if run is None:
        return
    spec = RunSpec.model_validate(run.spec)
    _learn(tx, run, spec, heard)
    note(tx, run, spec, request, reply, heard.problem)
    found = find(tx, run_uid)
    if found is None:
        return
    post, uncertain = found.post, heard.meaning is Meaning.UNKNOWN
    sent_at = post.sent_at or tx.now
    if heard.meaning in (Meaning.BUSY, Meaning.DOWN, Meaning.TURNED_DOWN) or (uncertain and ending is not None):
        _put(tx, found.run, post.model_copy(update={"sent_at": None}))
    elif not uncertain:
        taken = {"sent_at": None, "accepted_at": tx.now, "status_url": heard.status_url, "task": heard.task}
        _put(tx, found.run, post.model_copy(update=taken))
        records.mark_started(tx, run_uid, sent_at)
    if ending is not None:
        _end(tx, run_uid, ending)
    elif heard.meaning is Meaning.RUNNING:
        if found.dialect.polled and heard.status_url:
            due = tx.now + found.dialect.service.poll_interval
            tx.enqueue(POLL, f"poll/{run_uid}", run.key, {"runUid": run_uid}, due_at=due)
        if found.status.cancel_requested_at is not None:
            stop(tx, found.run)
    elif not uncertain and heard.meaning not in (Meaning.BUSY, Meaning.DOWN):
        conclude(tx, run_uid, heard, deliverable, problem)
    elif found.status.cancel_requested_at is not None and not uncertain:
        withdraw(tx, run_uid)


def conclude(tx: Transaction, run_uid: str, heard: Heard, deliverable: Artifact | None, problem: str) -> None:
    """Bring the run to the end that its worker told of; as if it had reported it over the agent protocol."""
    answer = heard.answer
    once = Once.of(f"answer/{run_uid}")
    ending = records.Ending(state=RunState.SUCCEEDED, reason=RunReason.COMPLETED, ended_at=tx.now)
    try:
        if heard.meaning is Meaning.SUCCEEDED and deliverable is not None and answer is not None:
            review = answer.self_review or "answered by its worker"
            reports.complete(tx, run_uid, deliverable, review, part=share(heard), problem=problem, once=once)
        elif heard.meaning is Meaning.SUCCEEDED:
            text = problem or "its worker says that it is done, but handed in nothing: an answer needs a deliverable"
            ending = records.Ending(state=RunState.FAILED, reason=RunReason.OUTPUT_INVALID, message=text)
        elif heard.meaning is Meaning.CANCELED:
            text = "its worker stopped it"
            ending = records.Ending(state=RunState.CANCELED, reason=RunReason.CANCELED, message=text)
        else:
            used = share(heard)
            if used is not None:
                reports.use(tx, run_uid, used, once=Once.of(f"answer-usage/{run_uid}"))
            retryable = answer is None or answer.retryable
            reports.fail(tx, run_uid, "WorkerFailed", heard.why or "no reason given", retryable=retryable, once=once)
    except Refused:
        pass  # its agent gave its last word before, or the run has ended: that counts
    _end(tx, run_uid, ending)


def share(heard: Heard) -> Share | None:
    """What the worker says that the run used."""
    usage = heard.answer.usage if heard.answer is not None else None
    if usage is None:
        return None
    spend = Spend(
        usd=usage.usd,
        input_tokens=usage.input_tokens or 0,
        output_tokens=usage.output_tokens or 0,
        source=usage.source.value,
    )
    return Share(usage.model or "", spend, usage.cache_read_tokens or 0, usage.cache_write_tokens or 0)


def progress(tx: Transaction, run_uid: str, heard: Heard) -> None:
    """What the worker says of a run that goes on; nothing is written when it says the same as before."""
    answer = heard.answer
    if answer is None or not (answer.message or answer.percent):
        return
    once = Once.of(f"progress/{answer.percent}/{answer.message}")
    try:
        reports.progress(tx, run_uid, answer.message, percent=answer.percent, once=once)
    except Refused:
        return


def withdraw(tx: Transaction, run_uid: str) -> None:
    """Stop a run: one that no worker can have ends here, for another its worker is told."""
    found = find(tx, run_uid)
    if found is None:
        return
    post = found.post
    if post.sent_at is None and post.accepted_at is None:
        tx.drop_effect(f"post/{run_uid}")
        text = f"not taken by its worker: {found.status.cancel_reason}".removesuffix(": ")
        _end(tx, run_uid, records.Ending(state=RunState.CANCELED, reason=RunReason.CANCELED, message=text))
        return
    stop(tx, found.run)


def stop(tx: Transaction, run: Resource) -> None:
    """Have its worker told to stop, until it says that it did."""
    tx.enqueue(STOP, f"stop/{run.uid}", run.key, {"runUid": run.uid})


def stopped(tx: Transaction, run_uid: str) -> None:
    """Its worker confirmed that it does not work on it any more."""
    found = find(tx, run_uid)
    if found is None:
        return
    ending = records.Ending(
        state=RunState.CANCELED, reason=RunReason.CANCELED, message="stopped on request", ended_at=tx.now
    )
    if found.post.overdue:
        text = "stopped at its deadline: its worker confirmed it"
        ending = records.Ending(
            state=RunState.TIMED_OUT, reason=RunReason.DEADLINE_EXCEEDED, message=text, ended_at=tx.now
        )
    _end(tx, run_uid, ending)


def lose(tx: Transaction, found: Posted, why: str) -> None:
    """End a run of which nobody can know whether it was worked on."""
    _end(tx, found.run.uid, lost(why, safe=found.safe))


def lost(why: str, *, safe: bool) -> records.Ending:
    """How a run ends whose worker may have worked on it; ``safe`` when its mission may be repeated all the same."""
    if safe:
        return records.Ending(state=RunState.LOST, reason=RunReason.WORKER_LOST, message=why)
    text = f"{why}; its worker may have done the work, and nobody can know"
    return records.Ending(state=RunState.UNKNOWN, reason=RunReason.WORKER_LOST, message=text, retryable=False)


def watch(tx: Transaction, key: Key) -> Result:
    """One look at a posted run (``key`` as of KIND): it ends with its agent's last word, or after its deadline."""
    run = tx.get(Key("Run", key.namespace, key.name))
    found = None if run is None else find(tx, run.uid)
    if found is None or found.post.deadline is None:
        tx.clear_timer(key, _TIMER)
        return DONE
    post, deadline = found.post, found.post.deadline
    if found.status.report is not None:
        ending = records.Ending(state=RunState.SUCCEEDED, reason=RunReason.COMPLETED, ended_at=tx.now)
        _end(tx, found.run.uid, ending)
        return DONE
    told = found.dialect.cancel(found.run.uid, post) is not None
    if tx.now < deadline:
        return _wake(tx, key, deadline)
    if post.sent_at is None and post.accepted_at is None:
        text = "its time was over before its worker took it"
        _end(tx, found.run.uid, records.Ending(state=RunState.FAILED, reason=RunReason.START_FAILED, message=text))
        return DONE
    if told and not post.overdue:
        _put(tx, found.run, post.model_copy(update={"overdue": True}))
        stop(tx, found.run)
        return _wake(tx, key, deadline + STOP_WAIT)
    if told and tx.now < deadline + STOP_WAIT:
        return _wake(tx, key, deadline + STOP_WAIT)
    what = "it did not confirm that it stopped" if told else "it cannot be told to (type Http: spec.http.cancel)"
    text = f"no result at its deadline, and {what}"
    ending = records.Ending(
        state=RunState.UNKNOWN, reason=RunReason.MAY_STILL_BE_RUNNING, message=text, retryable=False
    )
    _end(tx, found.run.uid, ending)
    return DONE


def note(tx: Transaction, run: Resource, spec: RunSpec, request: Request, reply: Reply, problem: str) -> None:
    """Keep one request in the log: in the events, and, as long as the run is open, on it."""
    method, shown, error = request.method, without_secrets(request.url), line(reply.error or problem, MESSAGE)
    data: dict[str, Any] = {"method": method, "url": shown, "latencyMs": reply.latency_ms}
    if reply.status is not None:
        data["status"] = reply.status
    status = RunStatus.model_validate(run.status)
    number = (status.post.requests if status.post is not None else 0) + 1
    if status.post is not None and status.state not in ENDED:
        attempt = PostAttempt(
            number=number, at=tx.now, method=method, url=shown, status=reply.status, latency_ms=reply.latency_ms,
            error=error,
        )  # fmt: skip
        log = (*status.post.log, attempt)[-LOGGED:]
        run = _put(tx, run, status.post.model_copy(update={"requests": number, "log": log}))
    said = str(reply.status) if reply.status is not None else reply.fate.value
    tx.event(
        EventType.RUN_POSTED,
        run,
        reason="Answered" if reply.status is not None else reply.fate.value,
        message=f"{method} {shown}: {said} after {reply.latency_ms} ms" + (f", {error}" if error else ""),
        data={**data, "request": number, "attempt": spec.attempt, "related": [spec.mission_uid, spec.agent_uid]},
    )


def timer_key(run: Resource) -> Key:
    """The queue key that watches over a run."""
    return Key(KIND, run.namespace, run.name)


def _end(tx: Transaction, run_uid: str, ending: records.Ending) -> None:
    run = tx.get_by_uid(run_uid)
    if run is not None:
        tx.clear_timer(timer_key(run), _TIMER)
    end_run(tx, run_uid, ending)


def _wake(tx: Transaction, key: Key, when: datetime) -> Result:
    tx.set_timer(key, _TIMER, when)
    return RequeueAt(when)


def _put(tx: Transaction, run: Resource, post: Post) -> Resource:
    status = RunStatus.model_validate(run.status)
    return tx.put_status(run, status.model_copy(update={"post": post}).to_wire())


# The circuit breaker.


def _admitted(tx: Transaction, found: Posted) -> datetime | None:
    """None when the run may be posted now; else when to ask again."""
    executor = tx.get(found.executor)
    if executor is None:
        return None
    known = ExecutorStatus.model_validate(executor.status).circuit or Circuit()
    trial_for = found.dialect.service.answer_timeout + TRIAL_MARGIN
    circuit, wait = circuits.admit(known, found.run.uid, tx.now, trial_for)
    put_circuit(tx, executor, circuit)
    return wait


def _learn(tx: Transaction, run: Resource, spec: RunSpec, heard: Heard) -> None:
    executor = tx.get(spec.executor_ref.key("Executor", run.namespace))
    version = None if executor is None else tx.spec_at(executor.uid, spec.executor_generation)
    if executor is None or version is None:
        return
    known = ExecutorStatus.model_validate(executor.status).circuit or Circuit()
    if heard.healthy is None:
        # It neither speaks for the worker nor against it: whoever is next may try.
        circuit = known.model_copy(update={"trial": "", "trial_until": None}) if known.trial == run.uid else known
    elif heard.healthy:
        circuit = circuits.answered(known)
    else:
        limits = ExecutorSpec.model_validate(version.spec).circuit_breaker
        circuit = circuits.failed(known, limits, tx.now, heard.why)
    put_circuit(tx, executor, circuit)


def put_circuit(tx: Transaction, executor: Resource, circuit: Circuit) -> Resource:
    """Write the circuit of an executor, with its event, when it changed."""
    status = ExecutorStatus.model_validate(executor.status)
    before = status.circuit or Circuit()
    if circuit == before:
        return executor
    executor = tx.put_status(executor, status.model_copy(update={"circuit": circuit}).to_wire())
    if circuit.state is not before.state:
        why = (
            f"after {circuit.failures} failures in a row: {circuit.last_failure}" if circuit.failures else "it answers"
        )
        tx.event(
            EventType.CIRCUIT_CHANGED,
            executor,
            reason=circuit.state.value,
            message=f"{before.state} -> {circuit.state}: {why}",
            data={"failures": circuit.failures},
        )
    return executor
