"""What an agent reports about its run while it works, and its last word.

Each report is carried out once per idempotency key: repeating it changes nothing. A run that has ended takes none
(RunEnded), one whose agent gave its last word takes none either (AlreadyReported), except for repetitions. Whoever
reports is running, so that the first report of a Pending run starts it. Texts are cut and cleaned, never refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from controllers.runs import artifacts, calls, loop_facts, pressure
from controllers.runs.calls import CallResult
from controllers.runs.once import Once
from controllers.runs.records import request_cancel
from controllers.runs.run_record import MOST_TOKENS, RunRecord
from controllers.runs.settlement import exceeds
from controllers.runs.text import MESSAGE, SELF_REVIEW, WORD, WORK_PLAN, clean, line
from controllers.runs.verdict import COMPLETE, FAIL, Share
from schemas.errors import Conflict, Refused
from schemas.event import EventType
from schemas.mission import Artifact, Spend
from schemas.protocol import ProviderErrorMessage, ToolResultMessage
from schemas.quantities import from_micros, to_micros
from schemas.resource import Resource
from schemas.run import ENDED, Report, RunReason, RunState, RunStatus
from store.contract import Transaction

HEARTBEAT_EVERY = timedelta(seconds=5)
"""Heartbeats are written at most this often."""


def heartbeat_is_due(run: Resource, now: datetime) -> bool:
    """Whether a heartbeat would write anything; if not, no transaction is needed for it."""
    status = RunStatus.model_validate(run.status)
    last = status.last_heartbeat_time
    if status.state is RunState.PENDING or last is None:
        return True
    # A clock that was set back must not silence heartbeats until it has caught up.
    return abs(now - last) >= HEARTBEAT_EVERY


def heartbeat(tx: Transaction, run_uid: str) -> Resource:
    """A sign of life. Appends no event; writes at most every HEARTBEAT_EVERY. Raises Refused."""
    record = RunRecord.load(tx, run_uid)
    require_open(record.status)
    if not heartbeat_is_due(record.run, tx.now):
        return record.run
    record.start(tx.now)
    record.put(last_heartbeat_time=tx.now)
    return record.save()


def require_open(status: RunStatus) -> None:
    """Raise Refused unless the agent may still report."""
    if status.state in ENDED:
        raise Refused(f"the run has ended: {status.state}, {status.reason}", reason="RunEnded")
    if status.report is not None:
        raise Refused(f"the run's outcome was reported already: {status.report.outcome}", reason="AlreadyReported")


def begin_report(tx: Transaction, run_uid: str, once: Once) -> tuple[RunRecord, bool]:
    """The record, with this sign of life in it, and whether the request was carried out before. Who goes on saves the
    record. Raises Refused."""
    record = RunRecord.load(tx, run_uid)
    if record.ended:
        require_open(record.status)
    if once.seen(record.status):
        return record, True
    require_open(record.status)
    record.start(tx.now)
    record.put(last_heartbeat_time=tx.now, seen_keys=once.remembered(record.status))
    return record, False


def progress(
    tx: Transaction,
    run_uid: str,
    message: str,
    *,
    percent: int | None = None,
    work_plan: str | None = None,
    session_id: str | None = None,
    once: Once,
) -> Resource:
    """What the agent does; absent parts stay as they were. No event when nothing is new. Raises Refused."""
    record, known = begin_report(tx, run_uid, once)
    if known:
        return record.run
    before = record.status
    text = clean(message, MESSAGE, record.redactor)
    record.put(
        progress=text,
        percent=before.percent if percent is None else percent,
        work_plan=before.work_plan if work_plan is None else clean(work_plan, WORK_PLAN, record.redactor),
        session_id=before.session_id if session_id is None else session_id,
    )
    after = record.status
    if (after.progress, after.percent, after.work_plan) != (before.progress, before.percent, before.work_plan):
        data = {} if after.percent is None else {"percent": after.percent}
        plan = "WorkPlan" if after.work_plan != before.work_plan else "Progress"
        record.note(EventType.RUN_PROGRESSED, plan, text, **data)
    if (after.percent or 0) > (before.percent or 0):
        loop_facts.progressed(tx, record.run)
    return record.save()


def usage(tx: Transaction, run_uid: str, part: Spend, *, model: str = "", once: Once) -> Resource:
    """As ``use``, of figures without a cache."""
    return use(tx, run_uid, Share(model, part), once=once)


def use(
    tx: Transaction,
    run_uid: str,
    part: Share,
    *,
    requests: int = 1,
    refused: ProviderErrorMessage | None = None,
    once: Once,
) -> Resource:
    """What was used since the last report; it adds up. The ledger hears of it when the run ends. Its Provider hears of
    it now, and of what it said where it ``refused``. Raises Refused."""
    record, known = begin_report(tx, run_uid, once)
    if known:
        return record.run
    pressure.used(tx, record.run, requests, part.spend.input_tokens + part.spend.output_tokens)
    if refused is not None:
        pressure.refused(tx, record, refused)
    loop_facts.spent(tx, record.run, record.take(part))
    if exceeds(tx, run_uid, record.status):
        record.note(EventType.CANCEL_REQUESTED, RunReason.BUDGET_EXCEEDED, "it used more than was reserved for it")
        return request_cancel(tx, record.save(), RunReason.BUDGET_EXCEEDED)
    return record.save()


def tool_result(
    tx: Transaction, run_uid: str, message: ToolResultMessage, *, call: Resource | None = None, once: Once
) -> Resource:
    """A tool call has ended: it is counted, compared with those before, and, when it is one that the gate allowed,
    booked and closed. Raises Refused, also CallEnded for a call that has a result already or was never allowed."""
    record, known = begin_report(tx, run_uid, once)
    if known:
        return record.run
    record.put(tool_calls=min(record.status.tool_calls + 1, MOST_TOKENS))
    call = call or calls.find_open(tx, record.run, message.call_key, message.tool, message.args_digest)
    if call is None:
        record.put(unasked_calls=min(record.status.unasked_calls + 1, MOST_TOKENS))
    usd_micros = None if message.usd is None else to_micros(message.usd)
    if call is not None:
        result = CallResult(
            message.ok, message.error or "", message.output_digest or "", usd_micros, message.duration_ms
        )
        spent = calls.report(tx, call, result, record.redactor)
        if spent is not None:
            record.spend(spent, by_call=True)
    elif usd_micros:
        record.spend(Spend(usd=from_micros(usd_micros), source="Reported"), by_call=True)
    loop_facts.tool_ended(tx, record.run, message, call, number=record.status.tool_calls)
    if exceeds(tx, run_uid, record.status):
        record.note(EventType.CANCEL_REQUESTED, RunReason.BUDGET_EXCEEDED, "it used more than was reserved for it")
        return request_cancel(tx, record.save(), RunReason.BUDGET_EXCEEDED)
    return record.save()


def check_artifact(status: RunStatus, name: str, digest: str, *, most: int = artifacts.MOST) -> bool:
    """Whether this artifact is listed already. Raises Conflict when another content has its name, Refused
    (TooManyArtifacts) when there is no room for one more."""
    for known in status.artifacts:
        if known.name == name:
            if known.digest != digest:
                raise Conflict(
                    f"artifact names are unique within a run: {name} was handed in with other content;"
                    " hand this in under another name"
                )
            return True
    if len(status.artifacts) >= most:
        raise Refused(f"a run has at most {most} artifacts; pack several files into one", reason="TooManyArtifacts")
    return False


def add_artifact(tx: Transaction, run_uid: str, artifact: Artifact, *, once: Once) -> Resource:
    """List an artifact that ``ArtifactFiles.keep`` has kept. The same content under the same name again changes
    nothing. Raises Refused, Conflict (see ``check_artifact``)."""
    record, known = begin_report(tx, run_uid, once)
    if known:
        return record.run
    if not check_artifact(record.status, artifact.name, artifact.digest):
        record.attach(artifact)
        loop_facts.progressed(tx, record.run)
    return record.save()


def check_evidence(status: RunStatus, evidence: Iterable[str]) -> None:
    """Raise Refused (EvidenceMissing) unless every name is that of an artifact."""
    known = {artifact.name for artifact in status.artifacts}
    missing = sorted({name for name in evidence if name not in known})
    if missing:
        raise Refused(
            f"evidence names what was not handed in: {', '.join(missing[:5])}; hand it in as an artifact first",
            reason="EvidenceMissing",
        )


def complete(
    tx: Transaction,
    run_uid: str,
    deliverable: Artifact,
    self_review: str,
    *,
    evidence: tuple[str, ...] = (),
    part: Share | None = None,
    problem: str = "",
    once: Once,
) -> Resource:
    """The agent's last word: done. The run ends when its program does. ``deliverable`` is kept already, ``problem`` is
    what ``check_output`` says of it. Raises Refused, Conflict."""
    record, known = begin_report(tx, run_uid, once)
    if known:
        return record.run
    # However much evidence there is, the deliverable has its place.
    check_artifact(record.status, deliverable.name, deliverable.digest, most=artifacts.MOST + 1)
    record.hand_in(deliverable)
    check_evidence(record.status, evidence)
    if part is not None:
        record.take(part)
    report = Report(
        outcome=COMPLETE,
        at=tx.now,
        self_review=clean(self_review, SELF_REVIEW, record.redactor),
        reason=RunReason.OUTPUT_INVALID if problem else "",
        message=clean(problem, MESSAGE, record.redactor),
    )
    record.put(report=report)
    record.note(
        EventType.RUN_PROGRESSED,
        "ReportedComplete",
        f"handed in {deliverable.name}",
        deliverable=deliverable.name,
        digest=deliverable.digest,
        evidence=list(evidence),
    )
    return record.save()


def fail(
    tx: Transaction,
    run_uid: str,
    reason: str,
    message: str,
    *,
    retryable: bool,
    refused: ProviderErrorMessage | None = None,
    once: Once,
) -> Resource:
    """The agent's last word: it cannot be done. The run ends when its program does. Where that is because its provider
    ``refused``, the attempt costs none. Raises Refused."""
    record, known = begin_report(tx, run_uid, once)
    if known:
        return record.run
    if refused is not None and pressure.refused(tx, record, refused):
        reason, message, retryable = RunReason.PROVIDER_OVERLOADED, f"{reason}: {message}", True
    report = Report(
        outcome=FAIL,
        at=tx.now,
        reason=line(reason, WORD, record.redactor),
        message=clean(message, MESSAGE, record.redactor),
        retryable=retryable,
    )
    record.put(report=report)
    record.note(
        EventType.RUN_PROGRESSED,
        "ReportedFailure",
        f"{report.reason}: {report.message}" if report.message else report.reason,
        retryable=retryable,
    )
    return record.save()
