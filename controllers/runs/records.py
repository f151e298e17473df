"""What the engine writes to a Run: that it started, that it is to stop, and how it ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from controllers.runs import calls, usage
from controllers.runs.artifacts import ArtifactFiles, room_inline
from controllers.runs.output_check import check_output, output_schema
from controllers.runs.pinned import spec_of
from controllers.runs.redaction_level import redactor_of
from controllers.runs.run_record import UNPRICED, RunRecord, find_run, unpriced
from controllers.runs.settlement import settle
from controllers.runs.text import MESSAGE, WORD, clean, line
from controllers.runs.verdict import COMPLETE, NEVER_STARTED, Verdict, judge, touched
from controllers.runs.verdict import Ending as Ending
from schemas.errors import Refused
from schemas.event import EventType
from schemas.executor import ExecutorSpec, OutputFormat
from schemas.mission import Artifact
from schemas.parsed import parsed
from schemas.quantities import to_micros
from schemas.redaction import Redactor
from schemas.resource import Resource
from schemas.run import ENDED, Report, RunSpec, RunState, RunStatus
from store.contract import Snapshot, Store, Transaction

CANCEL_RUN = "CancelRun"
"""Type of the effect that stops a run: key ``cancel/<run uid>``, payload ``{runUid, reason}``."""

SHORT = 4_096
"""Characters of output that may be checked and kept inside a transaction."""
_SUCCEEDED = {RunState.SUCCEEDED: True, RunState.UNKNOWN: None}


def mark_started(tx: Transaction, run_uid: str, at: datetime | None = None) -> None:
    """Its program runs since ``at`` (now when None). No effect on a run that started or ended already. Raises
    NotFound."""
    record = RunRecord.load(tx, run_uid)
    if record.status.state is RunState.PENDING:
        record.start(at or tx.now)
        record.save()


def request_cancel(tx: Transaction, run: Resource, reason: str) -> Resource:
    """Have the run stopped: the effect tells its executor, the inbox its agent. The first reason counts; no effect on
    a run that is being stopped or has ended. Whoever decided it notes the CancelRequested event, in the same
    transaction. Raises Conflict when ``run`` is stale."""
    record = RunRecord(tx, run)
    if record.ended or record.status.cancel_requested_at is not None:
        return run
    reason = line(reason, WORD)
    record.put(cancel_requested_at=tx.now, cancel_reason=reason)
    saved = record.save()
    tx.enqueue(CANCEL_RUN, f"cancel/{run.uid}", run.key, {"runUid": run.uid, "reason": reason})
    return saved


def revoke_token(tx: Transaction, run: Resource, why: str) -> Resource:
    """Let the run's token count no more: whoever works on it can neither ask nor report from now on. Once; no effect on
    a run that has ended. Raises Conflict when ``run`` is stale."""
    record = RunRecord(tx, run)
    if record.ended or record.status.token_revoked_at is not None:
        return run
    record.put(token_revoked_at=tx.now, token_revoked_for=line(why, MESSAGE))
    record.note(EventType.KEY_REVOKED, "Quarantine", record.status.token_revoked_for)
    return record.save()


def prepare(store: Store, files: ArtifactFiles, run_uid: str, ending: Ending) -> Ending:
    """Do the slow part of an ending before its transaction: keep the deliverable that the output holds, and check it
    against the agent's outputSchema. The result is what ``finish`` takes. Idempotent; blocks for up to some seconds.

    Raises NotFound, StoreUnavailable (try again).
    """
    if not ending.artifacts or ending.problem is not None:
        return ending
    with store.snapshot() as snapshot:
        known = _known(snapshot, run_uid)
    return _kept(known, files, ending)


def is_short(ending: Ending) -> bool:
    """Whether preparing it takes no time worth mentioning."""
    return sum(len(artifact.text or "") for artifact in ending.artifacts) <= SHORT


def prepare_in(tx: Transaction, files: ArtifactFiles, run_uid: str, ending: Ending) -> Ending:
    """``prepare`` inside the transaction, for an ending that ``is_short``: nothing is read that the transaction does
    not know. Raises NotFound, StoreUnavailable."""
    if not ending.artifacts or ending.problem is not None:
        return ending
    return _kept(_known(tx, run_uid), files, ending)


def _known(snapshot: Snapshot, run_uid: str) -> tuple[Resource, dict[str, Any], Redactor]:
    """The run, what its output is checked against, and what takes credentials out of it."""
    run = find_run(snapshot, run_uid)
    return run, output_schema(snapshot, parsed(RunSpec, run.spec)), redactor_of(snapshot, run)


def _kept(known: tuple[Resource, dict[str, Any], Redactor], files: ArtifactFiles, ending: Ending) -> Ending:
    run, schema, redactor = known
    status = parsed(RunStatus, run.status)
    if status.state in ENDED or status.report is not None:
        return ending
    kept = []
    for artifact in ending.artifacts:
        data = (artifact.text or "").encode()
        try:
            inline = room_inline(status)
            kept.append(
                files.keep(
                    run.uid,
                    run.name,
                    artifact.name,
                    artifact.media_type,
                    data,
                    inline=inline,
                    redactor=redactor,
                    namespace=run.namespace,
                )
            )
        except Refused as error:
            return replace(ending, artifacts=(), problem=str(error))
    return replace(
        ending, artifacts=tuple(kept), problem=check_output(schema, (ending.artifacts[0].text or "").encode())
    )


def finish(tx: Transaction, run_uid: str, ending: Ending) -> Resource:
    """End the run: state, reason, Succeeded condition, RunFinished event and the end of its reservation, all at once.
    This is the only way into a terminal state, and there is no way out of one: the first ending counts, and a run that
    has ended is returned as it is.

    An ending that was not prepared is checked here, while the transaction holds up every other writer. Raises NotFound.
    """
    record = RunRecord.load(tx, run_uid)
    if record.ended:
        return record.run
    ending = _checked(tx, record, ending)
    never = _never_started(record.status, ending)
    ended_at = ending.ended_at or tx.now
    if not never and (ending.started_at is not None or ending.state in (RunState.SUCCEEDED, RunState.TIMED_OUT)):
        record.start(ending.started_at or ended_at)
    output_format = _output_format(tx, record)
    verdict = judge(record.status, ending, output_format, idempotent=_idempotent(tx, record))
    _take_usage(record, ending)
    if ending.session_id and record.status.session_id is None:
        record.put(session_id=line(ending.session_id, 2 * WORD))
    _take_output(record, ending, ended_at, verdict, output_format)
    _end_calls(tx, record)
    _close(record, ending, ended_at, verdict)
    settled = settle(tx, run_uid, record.run.name, record.status, ran=not never)
    if settled is not None and not never:
        booked = settled + tx.balance(calls.on_top_account(run_uid)).spent
        if not record.status.usage_told and booked.usd_micros > to_micros(record.status.spend.usd or Decimal(0)):
            record.put(spend=record.status.spend.model_copy(update={"source": "Unknown"}))
        usage.write(record, booked)
    data = {"state": verdict.state.value, "attempt": record.spec.attempt, "retryable": verdict.retryable}
    if ending.exit_code is not None:
        data["exitCode"] = ending.exit_code
    if settled is not None:
        data |= {"settledUsdMicros": settled.usd_micros, "usageSource": record.status.spend.source}
        if any(unpriced(used) for used in record.status.usage):
            data["usageReason"] = UNPRICED
    record.note(EventType.RUN_FINISHED, verdict.reason, record.status.message, **data)
    return record.save()


def _end_calls(tx: Transaction, record: RunRecord) -> None:
    """Calls without a result end with the run; what they are booked with counts as its own."""
    booked = calls.end_with_run(tx, record.run.uid)
    if booked is not None:
        record.spend(booked, by_call=True)


def _take_usage(record: RunRecord, ending: Ending) -> None:
    if ending.usage is None:
        return
    if not ending.shares:
        record.spend(ending.usage, line(ending.model, 2 * WORD))
    for share in ending.shares:
        record.take(share)


def _checked(tx: Transaction, record: RunRecord, ending: Ending) -> Ending:
    if ending.problem is not None or not ending.artifacts or record.status.report is not None:
        return ending
    return replace(ending, problem=_check(output_schema(tx, record.spec), ending))


def _check(schema: dict[str, Any], ending: Ending) -> str:
    return check_output(schema, (ending.artifacts[0].text or "").encode())


def _never_started(status: RunStatus, ending: Ending) -> bool:
    """Whether it is certain that nothing ran, so that nothing has to be paid for. Of a worker that is lost nobody knows
    whether it had begun."""
    if touched(status) or ending.started_at is not None:
        return False
    if ending.state is RunState.FAILED:
        return ending.reason in NEVER_STARTED
    # An executor that knows when it ended, but not of a start, saw none.
    return ending.state is RunState.CANCELED and (ending.ended_at is not None or status.started_at is None)


def _idempotent(snapshot: Snapshot, record: RunRecord) -> bool:
    """Whether the mission, as the run was started with it, says that repeating its work is safe."""
    pinned = spec_of(snapshot, record.spec.mission_uid, record.spec.mission_generation)
    return pinned is not None and bool(pinned.get("retry", {}).get("idempotent"))


def _output_format(snapshot: Snapshot, record: RunRecord) -> OutputFormat:
    """How the run's output is read. Remit, the format without any, when the executor is gone."""
    executor = snapshot.get(record.spec.executor_ref.key("Executor", record.run.namespace))
    pinned = None if executor is None else snapshot.spec_at(executor.uid, record.spec.executor_generation)
    return OutputFormat.REMIT if pinned is None else parsed(ExecutorSpec, pinned.spec).output_format


def _take_output(
    record: RunRecord, ending: Ending, ended_at: datetime, verdict: Verdict, output_format: OutputFormat
) -> None:
    if not ending.artifacts or record.status.report is not None:
        return
    deliverable = _under_free_name(record.status, ending.artifacts[0])
    if not verdict.handed_in:
        # It does not count, but a person wants to see what there was.
        record.attach(deliverable)
        return
    record.hand_in(deliverable)
    review = f"exit code 0, output read as {output_format}"
    record.put(report=Report(outcome=COMPLETE, at=ended_at, self_review=review))


def _under_free_name(status: RunStatus, artifact: Artifact) -> Artifact:
    """The agent may have handed in something else under the name that the output gets."""
    taken = {known.name: known.digest for known in status.artifacts}
    name, number = artifact.name, 1
    while taken.get(name, artifact.digest) != artifact.digest:
        number += 1
        name = f"{number}-{artifact.name}"
    return artifact if name == artifact.name else artifact.model_copy(update={"name": name})


def _close(record: RunRecord, ending: Ending, ended_at: datetime, verdict: Verdict) -> None:
    started = record.status.started_at
    if started is not None and ending.started_at is not None:
        started = ending.started_at  # measured where it ran, and better than when we heard of it
    record.put(
        state=verdict.state,
        started_at=started,
        # A clock may have been set back meanwhile: a run does not end before it starts.
        ended_at=ended_at if started is None else max(ended_at, started),
        exit_code=ending.exit_code,
        retryable=verdict.retryable,
        log_bytes=max(0, ending.log_bytes),
        log_truncated=ending.log_truncated,
    )
    record.judge(_SUCCEEDED.get(verdict.state, False), verdict.reason, clean(verdict.message, MESSAGE, record.redactor))
