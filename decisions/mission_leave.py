"""A mission whose agent asked for leave to act: NeedsApproval, and the way out of it.

While it waits nothing is dispatched. Its run may wait with it, or end: then the next attempt starts once people have
answered, and finds the leave that was given.
"""

from __future__ import annotations

from decisions.mission_facts import ActionFacts, RunFacts
from decisions.mission_pass import Pass
from decisions.mission_stop import told_to_stop
from schemas.approval_request import OnTimeout, RequestState
from schemas.mission import MissionReason, MissionState
from schemas.resource import SYSTEM, Actor, ActorKind
from schemas.run import RunReason, RunState

TOO_LATE = "nobody gave leave in time"
_MAY_GO_ON_LATER = (RunState.FAILED, RunState.TIMED_OUT, RunState.LOST)
_WAITED = (RunReason.AWAITING_APPROVAL, RunReason.DEADLINE_EXCEEDED)


def pending(work: Pass) -> tuple[ActionFacts, ...]:
    """Its open questions about actions, oldest first."""
    return tuple(a for a in work.facts.actions if a.state is RequestState.PENDING)


def run_ended(work: Pass) -> None:
    """The run ended while the mission waited for leave. Where another attempt can go on with the answer, the mission
    keeps waiting without a run; else it goes back to where it was, and the end is booked like any other."""
    run = work.run
    if run is None or run.active or work.state not in (MissionState.NEEDS_APPROVAL, MissionState.IN_PROGRESS):
        return
    if pending(work) and _goes_on_later(work, run):
        _enter(work)
        if run.reason in _WAITED:
            work.put(attempts=max(0, work.status.attempts - 1))
        return
    if work.state is MissionState.NEEDS_APPROVAL:
        _back(work, SYSTEM, "its run ended", key=f"run/{run.uid}/waited")


def _goes_on_later(work: Pass, run: RunFacts) -> bool:
    """Whether the question outlives the run. An attempt that ended because it could only wait costs none."""
    if run.state not in _MAY_GO_ON_LATER or not run.retryable or run.cancel_requested_at is not None:
        return False
    return run.reason in _WAITED or work.status.attempts < work.spec.retry.max_attempts


def wait(work: Pass) -> None:
    """Enter NeedsApproval while an action waits for leave, leave it when all are answered, park when time ran out."""
    if work.state is MissionState.IN_PROGRESS:
        if pending(work) and (work.run is None or work.run.cancel_requested_at is None):
            _enter(work)
        return
    if work.state is not MissionState.NEEDS_APPROVAL:
        return
    late = [a for a in work.facts.actions if a.state is RequestState.EXPIRED and a.on_timeout is OnTimeout.PARK]
    if late:
        _park(work, late[0])
    elif pending(work):
        _enter(work)
    else:
        _answered(work)


def _enter(work: Pass) -> None:
    waits = pending(work)
    names = dict.fromkeys((*work.status.action_requests, *(a.name for a in waits)))
    work.put(action_requests=tuple(names))
    if work.state is MissionState.IN_PROGRESS:
        key = f"leave/{waits[0].uid}/{len(work.status.transitions)}"
        work.put(resume_state=MissionState.IN_PROGRESS, ready_since=None)
        work.move(MissionState.NEEDS_APPROVAL, SYSTEM, MissionReason.AWAITING_APPROVAL, waits[0].title, key=key)


def _park(work: Pass, late: ActionFacts) -> None:
    """Nothing is spent while it waits for a person: the run is stopped first."""
    if told_to_stop(work, MissionReason.APPROVAL_EXPIRED, TOO_LATE):
        return
    work.put(action_requests=(), resume_state=None)
    work.decision.close_actions = True
    key = f"leave/{late.uid}/expired"
    work.move(MissionState.BLOCKED, SYSTEM, MissionReason.APPROVAL_EXPIRED, TOO_LATE, key=key)


def _answered(work: Pass) -> None:
    decided = [a for a in work.facts.actions if a.decided_at is not None]
    last = max(decided, key=lambda a: (a.decided_at, a.state is not RequestState.APPROVED), default=None)
    if last is None:
        _back(work, SYSTEM, "the question no longer stands", key=f"leave/{len(work.status.transitions)}/gone")
    elif last.state is RequestState.APPROVED:
        _back(work, SYSTEM, f"leave was given by {last.decided_by}", key=f"leave/{last.uid}/answered")
    else:
        person = Actor(ActorKind.HUMAN, last.decided_by or "declared", last.transport or "Store")
        _back(work, person, last.reason or "leave was refused", key=f"leave/{last.uid}/answered")


def _back(work: Pass, actor: Actor, message: str, *, key: str) -> None:
    """To where it was. Without a run the next attempt is due at once."""
    origin = work.status.resume_state or MissionState.IN_PROGRESS
    human = actor.kind is ActorKind.HUMAN
    given = MissionReason.DENIED if human else MissionReason.APPROVED
    reason = MissionReason.AWAITING_APPROVAL if work.run is not None and not work.run.active else given
    work.move(origin, actor, reason, message, key=key)
    work.put(resume_state=None, action_requests=())
    if work.run is None and work.status.next_attempt_at is None:
        work.put(next_attempt_at=work.now)
