"""What a mission does next. ``decide`` takes the mission and everything it depends on, and returns its new status with
the acts that follow; ``reconcilers.missions`` gathers the facts and carries the acts out in one transaction.

The order of the steps is the meaning: an ended run is booked before anything else, a cancel or a Stop hold comes
before progress, and admission comes last. Dispatch itself (which admitted mission takes a free place) is decided per
agent in ``decisions.dispatch``; this module says only who may take part.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from decisions import containment, gates, loops, mission_follow_up, mission_leave, mission_proposal, retry
from decisions.mission_facts import DECLARED, Decision, MissionFacts, ReviewFacts, RunFacts
from decisions.mission_pass import Pass
from decisions.mission_stop import CANCEL_DEADLINE as CANCEL_DEADLINE
from decisions.mission_stop import told_to_stop
from decisions.mission_summary import summarise
from schemas.approval_request import RequestState, RequestType
from schemas.base import Key, ObjectRef
from schemas.budget import OnBreach
from schemas.event import EventType
from schemas.hold import HoldMode
from schemas.mission import (
    TERMINAL_STATES,
    DesiredState,
    Failure,
    MissionReason,
    MissionState,
    RerunPolicy,
    Review,
    Spend,
    Verdict,
)
from schemas.quantities import format_duration
from schemas.resource import (
    RECONCILE_REQUESTED_AT,
    RESET_REQUESTED_AT,
    RETRY_REQUESTED_AT,
    SYSTEM,
    Actor,
    ActorKind,
)
from schemas.run import RunReason, RunState

_BLOCKING = (OnBreach.BLOCK_MISSION, OnBreach.REQUIRE_APPROVAL)
_SOURCES = ("Reported", "Priced", "Estimated", "Unknown")
OVERLOADS_MOST = 10
"""So often in a row an attempt that ended because the provider was overloaded costs none."""
HELD_REASONS = (MissionReason.STOPPED, MissionReason.QUARANTINED)
"""Why a mission is Blocked when a Hold did it: the end of the Hold is what it waits for."""


def decide(facts: MissionFacts, now: datetime) -> Decision:
    """The new status and the acts that follow. Pure; deciding again on the outcome changes nothing more."""
    work = Pass(facts, now)
    requests(work)
    mission_leave.run_ended(work)
    book_ended_run(work)
    cancel_if_declared(work)
    if work.state in TERMINAL_STATES:
        finished(work)
    else:
        contain(work)
        steer_open_run(work)
        mission_leave.wait(work)
        mission_follow_up.wait(work)
        answer(work)
        quarantine(work)
        mission_proposal.consider(work)
        assign(work)
        review(work)
        keep_to_budget(work)
    containment.settle_alert(work)
    summarise(work)
    return work.decision


def requests(work: Pass) -> None:
    """Act on request tokens: retry, reconcile, reset. A token is handled once; one that has nothing to act on is
    recorded as ignored."""
    annotations, status = work.facts.annotations, work.status
    if containment.winding_down(work):
        return  # tokens wait until the run that was stopped has ended
    token = annotations.get(RETRY_REQUESTED_AT)
    if token and token != status.last_handled_retry:
        _retry(work, token)
        work.put(last_handled_retry=token)
    token = annotations.get(RECONCILE_REQUESTED_AT)
    if token and token != status.last_handled_reconcile:
        work.put(last_handled_reconcile=token)
        work.note(EventType.REQUEST_HANDLED, "Reconcile", "looked at on request", token=token)
    token = annotations.get(RESET_REQUESTED_AT)
    if token and token != status.last_handled_reset:
        if containment.reset(work, token):
            _withdraw(work)
        work.put(last_handled_reset=token)
        work.note(EventType.REQUEST_HANDLED, "Reset", "counters reset on request", token=token)


def _retry(work: Pass, token: str) -> None:
    state = work.state
    waiting = state is MissionState.IN_PROGRESS and work.run is None and work.status.next_attempt_at is not None
    if waiting:
        work.put(next_attempt_at=work.now, awaits_follow_up=None)
        work.note(EventType.REQUEST_HANDLED, "Retry", "the next attempt starts without waiting", token=token)
    elif state in (MissionState.FAILED, MissionState.DONE, MissionState.BLOCKED):
        _new_round(work, DECLARED, MissionReason.WAITING, "retry was requested", key=f"retry/{token}")
        work.note(EventType.REQUEST_HANDLED, "Retry", f"a new round begins, from {state}", token=token)
    else:
        work.note(EventType.REQUEST_IGNORED, "Retry", f"there is nothing to retry while {state}", token=token)


def _new_round(work: Pass, actor: Actor, reason: MissionReason, message: str, *, key: str) -> None:
    work.move(MissionState.ASSIGNED, actor, reason, message, key=key)
    _withdraw(work)
    containment.begin_anew(work)
    work.decision.close_actions = True
    work.put(
        attempts=0,
        current_run=None,
        started_at=None,
        finished_at=None,
        finished_generation=None,
        next_attempt_at=None,
        awaits_follow_up=None,
        ready_since=None,
        resume_state=None,
        action_requests=(),
        overloads=0,
        failure=None,
        review=None,
        deliverable=None,
        self_review=None,
        artifacts=(),
        gate_findings=(),
    )
    work.run = None


def _withdraw(work: Pass) -> None:
    """Take back the open question, if there is one."""
    review = work.facts.review
    if work.status.review_request and review is not None and review.state is RequestState.PENDING:
        work.decision.withdraw = review.name
    work.put(review_request=None)


def book_ended_run(work: Pass) -> None:
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
    _finish(work)


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
        _finish(work)
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


def cancel_if_declared(work: Pass) -> None:
    """``spec.desiredState: Canceled``, or deletion: stop the open run, then end the mission."""
    deleting = work.facts.deleting_since is not None
    if work.spec.desired_state is not DesiredState.CANCELED and not deleting:
        return
    if work.state is MissionState.CANCELED or (deleting and work.state in TERMINAL_STATES):
        return
    reason = MissionReason.CANCELED
    if told_to_stop(work, reason, "it is being deleted" if deleting else "spec.desiredState is Canceled"):
        return
    work.move(
        MissionState.CANCELED,
        DECLARED,
        reason,
        "deleted" if deleting else "spec.desiredState: Canceled",
        key=f"cancel/{work.facts.generation}",
    )
    _withdraw(work)
    _finish(work)


def _finish(work: Pass) -> None:
    work.decision.close_actions = True
    work.put(
        action_requests=(),
        finished_at=work.now,
        finished_generation=work.facts.generation,
        next_attempt_at=None,
        awaits_follow_up=None,
        ready_since=None,
        resume_state=None,
        current_run=None if work.run is None else work.status.current_run,
    )


def finished(work: Pass) -> None:
    """A mission that ended: an edit makes it Outdated, or runs it again if it says so; its ttl removes it."""
    status, spec = work.status, work.spec
    outdated = status.finished_generation is not None and work.facts.generation > status.finished_generation
    if outdated and spec.rerun_policy is RerunPolicy.ON_CHANGE and work.state is not MissionState.CANCELED:
        _new_round(work, DECLARED, MissionReason.OUTDATED, "the spec changed", key=f"rerun/{work.facts.generation}")
        assign(work)
        return
    ttl = spec.ttl_seconds_after_finished
    if ttl is not None and status.finished_at is not None and not work.facts.declared:
        due = status.finished_at + timedelta(seconds=ttl)
        if work.now >= due:
            work.decision.remove = True
        else:
            work.wake(due)


def contain(work: Pass) -> None:
    """Work that was found to go around in circles: the mission is blocked and its run stopped."""
    if containment.contain(work):
        _withdraw(work)
        told_to_stop(work, MissionReason.LOOP_DETECTED, work.decision.notes[-1].message)


def steer_open_run(work: Pass) -> None:
    """Stop the open run when a Hold, a new assignee or the deadline says so."""
    run, held, spec = work.run, work.facts.held, work.spec
    if run is None or work.decision.contained is not None:
        return
    if held is not None and held.mode is HoldMode.STOP:
        told_to_stop(work, MissionReason.STOPPED, held.hint)
    elif work.facts.agent_key is not None and work.facts.agent_key != run.agent and spec.agent_ref is not None:
        told_to_stop(work, "Reassigned", f"reassigned to {work.facts.agent_key.short}")
    elif run.cancel_requested_at is not None:
        told_to_stop(work, run.cancel_reason, run.cancel_reason)
    elif spec.deadline is not None and work.status.started_at is not None:
        due = work.status.started_at + spec.deadline
        if work.now >= due:
            told_to_stop(work, MissionReason.DEADLINE_EXCEEDED, "longer than spec.deadline")
        else:
            work.wake(due)


def answer(work: Pass) -> None:
    """Blocked missions: a person's answer, or the end of the Hold that stopped them."""
    if work.state is not MissionState.BLOCKED or containment.winding_down(work):
        return
    review, status = work.facts.review, work.status
    if review is not None and status.review_request == review.name and review.type is RequestType.UNBLOCK:
        person = Actor(ActorKind.HUMAN, review.decided_by or "declared", review.transport or "Store")
        if review.state is RequestState.APPROVED:
            work.decision.consume = review.name
            _new_round(work, person, MissionReason.APPROVED, review.reason, key=f"unblock/{review.uid}")
            return
        if review.state is RequestState.DENIED:
            work.put(review=_verdict(review, "Deny", work.now))
            key = f"unblock/{review.uid}"
            work.move(MissionState.CANCELED, person, MissionReason.DENIED, review.reason, key=key)
            work.put(review_request=None)
            _finish(work)
            return
    if work.block_reason() == MissionReason.BUDGET_EXCEEDED:
        _room_again(work)
        return
    stopped = status.resume_state is MissionState.ASSIGNED and work.block_reason() in HELD_REASONS
    if stopped and (work.facts.held is None or work.facts.held.mode is not HoldMode.STOP):
        work.put(resume_state=None, ready_since=None)
        _withdraw(work)
        key = f"released/{len(status.transitions)}/{int(work.now.timestamp() * 1000)}"
        work.move(MissionState.ASSIGNED, DECLARED, MissionReason.WAITING, "the hold has ended", key=key)


def quarantine(work: Pass) -> None:
    """A mission of an agent in quarantine is Blocked, also where nothing runs: somebody has to see to it. What waits
    for a verdict on what was handed in goes on waiting for that."""
    held = work.facts.held
    if held is None or not held.quarantine or work.run is not None:
        return
    if work.state not in (MissionState.ASSIGNED, MissionState.IN_PROGRESS):
        return
    key = f"quarantine/{len(work.status.transitions)}/{int(work.now.timestamp() * 1000)}"
    work.put(resume_state=MissionState.ASSIGNED, ready_since=None, next_attempt_at=None)
    work.move(MissionState.BLOCKED, SYSTEM, MissionReason.QUARANTINED, held.hint, key=key)


def _room_again(work: Pass) -> None:
    """Blocked by a limit: what a person granted, or the room that there is now, lets it go on."""
    review, status = work.facts.review, work.status
    granted = (
        review is not None
        and status.review_request == review.name
        and review.type is RequestType.BUDGET
        and review.state is RequestState.APPROVED
    )
    if granted and review is not None:
        person = Actor(ActorKind.HUMAN, review.decided_by or "declared", review.transport or "Store")
        work.decision.grant = work.decision.consume = review.name
        work.put(review_request=None, ready_since=None)
        work.move(MissionState.ASSIGNED, person, MissionReason.APPROVED, review.reason, key=f"grant/{review.uid}")
    elif work.facts.breach is None:
        _withdraw(work)
        work.put(ready_since=None)
        key = f"room/{len(status.transitions)}/{int(work.now.timestamp() * 1000)}"
        work.move(MissionState.ASSIGNED, DECLARED, MissionReason.WAITING, "its budget has room again", key=key)


def keep_to_budget(work: Pass) -> None:
    """A limit that blocks missions, or asks for more, blocks this one once nothing else keeps it from its next run."""
    breach = work.facts.breach
    if breach is None or work.decision.grant is not None or breach.meter.on_breach not in _BLOCKING:
        return
    if work.state not in (MissionState.ASSIGNED, MissionState.IN_PROGRESS) or work.run is not None:
        return
    facts = work.facts
    due = work.status.next_attempt_at
    if (
        work.spec.suspend
        or facts.held is not None
        or facts.agent is None
        or not facts.agent.ready
        or facts.agent.draining
        or facts.cycle
        or facts.input_error
        or any(d.state is not MissionState.DONE for d in facts.dependencies)
        or (due is not None and due > work.now)
    ):
        return
    key = f"budget/{len(work.status.transitions)}/{int(work.now.timestamp() * 1000)}"
    work.put(ready_since=None)
    work.move(MissionState.BLOCKED, SYSTEM, MissionReason.BUDGET_EXCEEDED, breach.message, key=key)


def assign(work: Pass) -> None:
    """Inbox and Assigned follow the declared assignee."""
    if mission_proposal.waits(work):
        return
    agent = work.facts.agent_key
    wanted = None if agent is None else _ref(agent, work.facts.key.namespace)
    if work.state is MissionState.INBOX and wanted is not None:
        work.put(agent=wanted)
        work.move(
            MissionState.ASSIGNED, DECLARED, MissionReason.ACCEPTED, f"assigned to {wanted.name}",
            key=f"assign/{work.facts.generation}",
        )  # fmt: skip
    elif work.state is MissionState.ASSIGNED and wanted is None:
        work.put(agent=None, ready_since=None)
        work.move(
            MissionState.INBOX, DECLARED, MissionReason.NO_AGENT, "nobody is assigned any more",
            key=f"unassign/{work.facts.generation}",
        )  # fmt: skip
    elif work.state is not MissionState.INBOX and wanted is not None and work.run is None:
        work.put(agent=wanted)


def review(work: Pass) -> None:
    """Review: ask a person, or accept by the declared policy."""
    if work.state is not MissionState.REVIEW:
        return
    if work.spec.review is not Review.HUMAN:
        _withdraw(work)
        policy = f"spec.review: {work.spec.review}"
        place = f" ({work.facts.place})" if work.facts.place else ""
        verdict = Verdict(
            verdict="Approve", actor=f"policy:{policy}{place}", transport="Source", reason=policy, at=work.now
        )
        work.put(review=verdict)
        work.move(
            MissionState.DONE, DECLARED, MissionReason.AUTO_ACCEPTED, f"accepted by {policy}",
            key=f"accept/{work.status.last_run}",
        )  # fmt: skip
        _finish(work)
        return
    review = work.facts.review
    if review is None or work.status.review_request != review.name or review.type is not RequestType.REVIEW:
        work.ask(RequestType.REVIEW, _review_action(work), f"Accept the result of {work.facts.key.short}?")
        return
    person = Actor(ActorKind.HUMAN, review.decided_by, review.transport)
    key = f"review/{review.uid}"
    if review.state is RequestState.APPROVED:
        work.decision.consume = review.name
        work.put(review=_verdict(review, "Approve", work.now), review_request=None)
        work.move(MissionState.DONE, person, MissionReason.APPROVED, review.reason, key=key)
        _finish(work)
    elif review.state is RequestState.DENIED:
        work.put(review=_verdict(review, "Deny", work.now), review_request=None)
        work.move(MissionState.BLOCKED, person, MissionReason.DENIED, review.reason, key=key)
    elif review.state is RequestState.CHANGES_REQUESTED:
        work.put(
            review=_verdict(review, "ChangesRequested", work.now),
            review_request=None,
            feedback=review.reason,
            attempts=0,
            next_attempt_at=work.now,
            ready_since=None,
        )
        # The reviewer's act, carried out for the agent that goes on with the work: Review -> InProgress (h).
        work.move(MissionState.IN_PROGRESS, person, MissionReason.CHANGES_REQUESTED, review.reason, key=key)
    elif review.state is RequestState.EXPIRED:
        work.put(review_request=None)
        work.move(MissionState.BLOCKED, SYSTEM, MissionReason.REVIEW_EXPIRED, "nobody gave a verdict in time", key=key)


def _review_action(work: Pass) -> dict[str, Any]:
    deliverable = work.status.deliverable
    return {
        "act": "accept",
        "mission": str(work.facts.key),
        "uid": work.facts.uid,
        "run": work.status.last_run or "",
        "deliverable": {
            "name": deliverable.name if deliverable else "",
            "digest": deliverable.digest if deliverable else "",
            "size": deliverable.size if deliverable else 0,
        },
    }


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


def _verdict(review: ReviewFacts, verdict: str, now: datetime) -> Verdict:
    return Verdict(
        verdict=verdict,
        actor=review.decided_by,
        transport=review.transport,
        reason=review.reason,
        at=review.decided_at or now,
        decision=review.decision,
    )


def _ref(key: Key, namespace: str) -> ObjectRef:
    return ObjectRef(name=key.name, namespace=None if key.namespace == namespace else key.namespace)


def may_start(decision: Decision) -> bool:
    """Whether the mission, as decided, waits for nothing but a free place."""
    return decision.status.ready_since is not None and decision.status.current_run is None


def begin_run(facts: MissionFacts, now: datetime, run: str, decided: Decision | None = None) -> Decision:
    """The decision together with the start of run ``run``; only for a mission that ``may_start``. ``decided`` is what
    ``decide`` said of the same, where that was asked already; it becomes this one."""
    work = Pass(facts, now)
    work.decision = decided if decided is not None else decide(facts, now)
    number = work.status.total_runs + 1
    if work.state is MissionState.ASSIGNED:
        work.move(MissionState.IN_PROGRESS, SYSTEM, MissionReason.DISPATCHED, f"run {run}", key=f"dispatch/{run}")
    work.put(
        current_run=run,
        last_run=run,
        attempts=work.status.attempts + 1,
        total_runs=number,
        started_at=work.status.started_at or now,
        next_attempt_at=None,
        awaits_follow_up=None,
        ready_since=None,
        deliverable=None,
        self_review=None,
        artifacts=(),
        gate_findings=(),
    )
    summarise(work)
    return work.decision
