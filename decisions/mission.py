"""What a mission does next. ``decide`` takes the mission and everything it depends on, and returns its new status with
the acts that follow; ``reconcilers.missions`` gathers the facts and carries the acts out in one transaction.

The order of the steps is the meaning: an ended run is booked before anything else, a cancel or a Stop hold comes
before progress, and admission comes last. Dispatch itself (which admitted mission takes a free place) is decided per
agent in ``decisions.dispatch``; this module says only who may take part.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from decisions import containment, mission_follow_up, mission_leave, mission_proposal, mission_review, mission_run_end
from decisions.mission_facts import DECLARED, Decision, MissionFacts
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
    MissionReason,
    MissionState,
    RerunPolicy,
)
from schemas.resource import (
    RECONCILE_REQUESTED_AT,
    RESET_REQUESTED_AT,
    RETRY_REQUESTED_AT,
    SYSTEM,
    Actor,
    ActorKind,
)

_BLOCKING = (OnBreach.BLOCK_MISSION, OnBreach.REQUIRE_APPROVAL)
HELD_REASONS = (MissionReason.STOPPED, MissionReason.QUARANTINED)
"""Why a mission is Blocked when a Hold did it: the end of the Hold is what it waits for."""


def decide(facts: MissionFacts, now: datetime) -> Decision:
    """The new status and the acts that follow. Pure; deciding again on the outcome changes nothing more."""
    work = Pass(facts, now)
    requests(work)
    mission_leave.run_ended(work)
    mission_run_end.take_in(work)
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
        mission_review.weigh(work)
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
            work.withdraw()
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
    work.withdraw()
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
    work.withdraw()
    work.finish()


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
        work.withdraw()
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
            work.put(review=mission_review.verdict_of(review, "Deny", work.now))
            key = f"unblock/{review.uid}"
            work.move(MissionState.CANCELED, person, MissionReason.DENIED, review.reason, key=key)
            work.put(review_request=None)
            work.finish()
            return
    if work.block_reason() == MissionReason.BUDGET_EXCEEDED:
        _room_again(work)
        return
    stopped = status.resume_state is MissionState.ASSIGNED and work.block_reason() in HELD_REASONS
    if stopped and (work.facts.held is None or work.facts.held.mode is not HoldMode.STOP):
        work.put(resume_state=None, ready_since=None)
        work.withdraw()
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
        work.withdraw()
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
