"""A mission whose run waits for leave to do something: NeedsApproval, and the way back."""

from __future__ import annotations

from decisions.mission_facts import DECLARED, AskedFacts
from decisions.mission_pass import Pass
from schemas.approval_request import RequestState
from schemas.mission import MissionReason, MissionState
from schemas.resource import SYSTEM, Actor, ActorKind


def parked(work: Pass) -> AskedFacts | None:
    """The question that nobody answered in time, where the mission is to be parked for it."""
    if work.state is not MissionState.NEEDS_APPROVAL:
        return None
    return next((a for a in work.facts.asked if a.state is RequestState.EXPIRED and a.parks), None)


def wait_for_leave(work: Pass) -> None:
    """To NeedsApproval while an answer is awaited, back to where it was once there is none to wait for."""
    pending = next((a for a in work.facts.asked if a.state is RequestState.PENDING), None)
    if work.state is MissionState.IN_PROGRESS and work.run is not None and pending is not None:
        work.put(resume_state=work.state, review_request=pending.name)
        key = f"ask/{pending.uid}/{len(work.status.transitions)}"
        work.move(MissionState.NEEDS_APPROVAL, SYSTEM, MissionReason.AWAITING_APPROVAL, pending.title, key=key)
    elif work.state is not MissionState.NEEDS_APPROVAL or parked(work) is not None:
        return  # a run that is parked is being told to stop
    elif pending is not None and work.run is not None:
        work.put(review_request=pending.name)
    else:
        resume(work)


def resume(work: Pass) -> None:
    """Go back to where it was: by the system on a granted decision, else by whoever decided otherwise."""
    asked = next((a for a in work.facts.asked if a.name == work.status.review_request), None)
    actor, reason, message = _who(asked)
    back = work.status.resume_state or MissionState.IN_PROGRESS
    key = f"answered/{asked.uid if asked is not None else ''}/{len(work.status.transitions)}"
    work.move(back, actor, reason, message, key=key)
    work.put(resume_state=None, review_request=None)


def _who(asked: AskedFacts | None) -> tuple[Actor, MissionReason, str]:
    if asked is None or asked.state is RequestState.PENDING:
        return SYSTEM, MissionReason.WAITING, "nothing waits for leave any more"
    if asked.state is RequestState.APPROVED:
        return SYSTEM, MissionReason.APPROVED, f"{asked.by} gave leave"
    if asked.state is RequestState.DENIED:
        person = Actor(ActorKind.HUMAN, asked.by or "declared", asked.transport or "Store")
        return person, MissionReason.DENIED, asked.reason
    return DECLARED, MissionReason.WAITING, f"the question is closed: {asked.state}"


def park(work: Pass, message: str, key: str) -> None:
    """Nobody answered in time, and its run was stopped, so that nothing is spent meanwhile: to Blocked."""
    work.put(resume_state=None, review_request=None)
    work.move(MissionState.BLOCKED, SYSTEM, MissionReason.APPROVAL_EXPIRED, message, key=key)
