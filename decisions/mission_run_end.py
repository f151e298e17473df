"""What the end of its run means for a mission: handed in, tried again, failed, stopped, or nobody knows."""

from __future__ import annotations

from decimal import Decimal

from decisions import containment, gates, loops, mission_follow_up, mission_leave, retry
from decisions.mission_facts import DECLARED, RunFacts
from decisions.mission_pass import Pass
from schemas.event import EventType
from schemas.mission import DesiredState, Failure, MissionReason, MissionState, Spend
from schemas.quantities import format_duration
from schemas.resource import SYSTEM, Actor, ActorKind
from schemas.run import RunReason, RunState

OVERLOADS_MOST = 10
"""So often in a row an attempt that ended because the provider was overloaded costs none."""
_SOURCES = ("Reported", "Priced", "Estimated", "Unknown")


def take_in(work: Pass) -> None:
    """Take in what the open run came to, once."""
    run = work.run
    if run is None and work.status.current_run is not None:
        # The record of the run is gone (a restored backup): nobody can know what it did.
        work.put(current_run=None)
        if work.state in (MissionState.IN_PROGRESS, MissionState.NEEDS_APPROVAL):
            message = "the record of its run is missing"
            key = f"lost/{work.status.last_run}"
            work.move(MissionState.BLOCKED, SYSTEM, MissionReason.OUTCOME_UNKNOWN, message, key=key)
    if run is None or run.active:
        return
    work.put(
        current_run=None,
        last_run=run.name,
        artifacts=run.artifacts,
        spend=add_spend(work.status.spend, run.spend, first=work.status.total_runs <= 1),
    )
    if run.work_plan:
        work.put(work_plan=run.work_plan)
    if run.reason != RunReason.PROVIDER_OVERLOADED:
        containment.observe_run(work, run)
    work.run = None
    key = f"run/{run.uid}/ended"
    if work.state is not MissionState.IN_PROGRESS:
        return
    if run.state is RunState.SUCCEEDED:
        _handed_in(work, run, key)
    elif run.state is RunState.CANCELED or run.cancel_requested_at is not None:
        _stopped(work, run, key)
    elif run.state is RunState.UNKNOWN:
        _unknown(work, run, key)
    else:
        _failed(work, run, run.reason, run.message, key)


def _handed_in(work: Pass, run: RunFacts, key: str) -> None:
    missing, findings = _requirements(work, run)
    work.put(deliverable=run.deliverable, self_review=run.self_review, gate_findings=tuple(str(f) for f in findings))
    if missing:
        _failed(work, run, "RequirementsMissing", "not ready for review: " + "; ".join(missing), key)
        return
    agent = Actor(ActorKind.AGENT, f"agent:{run.agent.namespace}/{run.agent.name}", "Token")
    names = tuple(a.name for a in run.artifacts)
    work.decision.close_actions = True
    work.move(MissionState.REVIEW, agent, MissionReason.COMPLETED, "handed in", key=key, artifacts=names)
    work.put(failure=None, feedback=None, overloads=0, review_cycles=work.status.review_cycles + 1)
    loop = loops.observe_review(work.loop, work.status.review_cycles, work.facts.loop_limits, work.now, run=run.name)
    if loop.finding is not None:
        work.put(loop=loop)


def _requirements(work: Pass, run: RunFacts) -> tuple[list[str], list[gates.Finding]]:
    """What Review needs and the run did not bring: deliverable, work-review, evidence, passed gates."""
    missing: list[str] = []
    findings: list[gates.Finding] = []
    if run.deliverable is None:
        missing.append("no deliverable")
    else:
        findings = gates.check(work.spec.evidence.gates, run.deliverable.text or "")
        missing += [str(f) for f in findings if f.fatal]
    if not run.self_review:
        missing.append("no work-review")
    evidence = [a for a in run.artifacts if run.deliverable is None or a.name != run.deliverable.name]
    if work.spec.evidence.required and not evidence:
        missing.append("no evidence beside the deliverable")
    return missing, findings


def _overloaded(work: Pass, run: RunFacts) -> bool:
    """The provider refused: that is no fault of the work, and costs no attempt, unless it goes on and on."""
    if run.reason != RunReason.PROVIDER_OVERLOADED or not run.retryable or work.status.overloads >= OVERLOADS_MOST:
        return False
    overloads, ended = work.status.overloads + 1, run.ended_at or work.now
    due = retry.next_attempt(work.spec.retry.backoff, overloads, work.facts.uid, ended)
    work.put(
        attempts=max(0, work.status.attempts - 1),
        overloads=overloads,
        failure=Failure(reason=run.reason, message=run.message, exit_code=run.exit_code, run=run.name),
        next_attempt_at=due,
        ready_since=None,
    )
    message = f"its provider refused, time {overloads} of {OVERLOADS_MOST} that cost no attempt: {run.message}"
    work.note(EventType.RETRY_SCHEDULED, run.reason, message, due=due.isoformat(), overloads=overloads)
    return True


def _failed(work: Pass, run: RunFacts, reason: str, message: str, key: str) -> None:
    if _overloaded(work, run) or mission_follow_up.begins(work, run):
        return
    if reason == RunReason.AWAITING_APPROVAL and run.asked and run.retryable:
        # The answer came before its end was booked: the next attempt goes on with it, and this one cost none.
        work.put(attempts=max(0, work.status.attempts - 1), next_attempt_at=work.now, ready_since=None)
        return
    work.put(overloads=0)
    ended = run.ended_at or work.now
    failure = Failure(reason=reason, message=message, exit_code=run.exit_code, run=run.name)
    work.put(failure=failure)
    attempts, limit = work.status.attempts, work.spec.retry.max_attempts
    if run.retryable and attempts < limit:
        due = retry.next_attempt(work.spec.retry.backoff, attempts, work.facts.uid, ended)
        work.put(next_attempt_at=due, ready_since=None)
        work.note(
            EventType.RETRY_SCHEDULED,
            reason,
            f"attempt {attempts} of {limit} failed: {message or reason}",
            attempt=attempts,
            due=due.isoformat(),
        )
        return
    why = MissionReason.RETRIES_EXHAUSTED if run.retryable else MissionReason.NOT_RETRYABLE
    if reason == "DeadlineExceeded" and attempts >= limit:
        why = MissionReason.DEADLINE_EXCEEDED
    work.move(MissionState.FAILED, SYSTEM, why, message or reason, key=key)
    work.finish()


def _stopped(work: Pass, run: RunFacts, key: str) -> None:
    """The run was told to stop: what follows depends on why."""
    reason, held = run.cancel_reason, work.facts.held
    if reason == MissionReason.CANCELED or work.spec.desired_state is DesiredState.CANCELED:
        return  # cancel_if_declared ends the mission
    if reason == MissionReason.DEADLINE_EXCEEDED:
        limit = format_duration(work.spec.deadline) if work.spec.deadline is not None else "none now"
        message = f"longer than spec.deadline ({limit})"
        work.put(failure=Failure(reason=reason, message=message, run=run.name))
        work.move(MissionState.FAILED, SYSTEM, MissionReason.DEADLINE_EXCEEDED, message, key=key)
        work.finish()
    elif reason in ("Reassigned", "AgentUpdated"):
        work.move(MissionState.ASSIGNED, DECLARED, MissionReason.WAITING, run.message, key=key)
        work.put(ready_since=None, attempts=max(0, work.status.attempts - 1))
    elif reason == MissionReason.BUDGET_EXCEEDED:
        message = run.message or "its run used more than was reserved for it"
        work.put(failure=Failure(reason=reason, message=message, run=run.name))
        work.move(MissionState.BLOCKED, SYSTEM, MissionReason.RUN_OVER_BUDGET, message, key=key)
    elif reason == MissionReason.APPROVAL_EXPIRED and run.state is not RunState.UNKNOWN:
        work.decision.close_actions = True
        work.move(MissionState.BLOCKED, SYSTEM, MissionReason.APPROVAL_EXPIRED, mission_leave.TOO_LATE, key=key)
    elif run.state is RunState.UNKNOWN:
        _unknown(work, run, key)
    else:
        message = held.hint if held else (run.message or "its run was stopped")
        why = MissionReason.QUARANTINED if held and held.quarantine else MissionReason.STOPPED
        work.put(resume_state=MissionState.ASSIGNED, attempts=max(0, work.status.attempts - 1))
        work.move(MissionState.BLOCKED, SYSTEM, why, message, key=key)


def _unknown(work: Pass, run: RunFacts, key: str) -> None:
    work.put(failure=Failure(reason=run.reason, message=run.message, run=run.name))
    work.move(MissionState.BLOCKED, SYSTEM, MissionReason.OUTCOME_UNKNOWN, run.message, key=key)


def add_spend(total: Spend, part: Spend, *, first: bool) -> Spend:
    """Both together; the weakest source counts, also that of a part without figures. Of the ``first`` part the source
    is taken as it is."""
    usd = None if total.usd is None and part.usd is None else (total.usd or Decimal(0)) + (part.usd or Decimal(0))
    source = part.source if first else max(total.source, part.source, key=_SOURCES.index)
    return Spend.model_construct(
        usd=usd,
        input_tokens=total.input_tokens + part.input_tokens,
        output_tokens=total.output_tokens + part.output_tokens,
        source=source,
    )
