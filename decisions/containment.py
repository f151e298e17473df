"""A mission that goes around in circles: it is blocked, its run stopped, and a person begins its counts anew.

Steps of the pass over a mission (see ``decisions.mission``). Legal ways out of containment: the answer to its question
or ``retry`` (a new round), the token ``remit.dev/reset-requested-at`` (it goes on where it was), and a cancel.
"""

from __future__ import annotations

from decisions import loops
from decisions.mission_facts import DECLARED, RunFacts
from decisions.mission_pass import Pass
from schemas.loop import LoopFinding
from schemas.mission import MissionReason, MissionState
from schemas.resource import SYSTEM
from schemas.run import RunReason, RunState

_STOPPABLE = (
    MissionState.INBOX,
    MissionState.ASSIGNED,
    MissionState.IN_PROGRESS,
    MissionState.REVIEW,
    MissionState.NEEDS_APPROVAL,
)
_TELLING = (RunState.SUCCEEDED, RunState.FAILED, RunState.TIMED_OUT)
"""Ends of a run that say something about the state it leaves."""


def said(finding: LoopFinding) -> str:
    """One line for people; names no time."""
    return f"{finding.what}: {finding.count}, more than {finding.limit} ({finding.signal})"


def contain(work: Pass) -> bool:
    """Block the mission when something was found; whether it was blocked in this pass."""
    loop = work.loop
    finding = loop.finding
    if finding is None or loop.contained_at is not None or work.state not in _STOPPABLE:
        return False
    work.put(
        loop=loop.model_copy(update={"contained_at": work.now}),
        resume_state=MissionState.REVIEW if work.state is MissionState.REVIEW else None,
        ready_since=None,
        next_attempt_at=None,
    )
    work.decision.contained = finding
    key = f"loop/{loop.epoch}/{finding.signal}"
    work.move(MissionState.BLOCKED, SYSTEM, MissionReason.LOOP_DETECTED, said(finding), key=key)
    return True


def winding_down(work: Pass) -> bool:
    """Contained, and its run has not ended yet: nothing else begins before."""
    return (
        work.state is MissionState.BLOCKED
        and work.run is not None
        and work.block_reason() == MissionReason.LOOP_DETECTED
    )


def observe_run(work: Pass, run: RunFacts) -> None:
    """A run has ended: did it change anything?"""
    if run.state not in _TELLING or run.reason == RunReason.AWAITING_APPROVAL:
        return  # it stopped for a person, however often
    handed_in = [a for a in run.artifacts if not a.name.startswith(loops.SUMMARY)]
    state = loops.outcome(run.deliverable, handed_in, run.reason, run.message)
    work.put(loop=loops.observe_run(work.loop, state, work.facts.loop_limits, work.now, run=run.name))


def begin_anew(work: Pass) -> None:
    """A person asked for a new round: what was counted before does not count against it."""
    if work.status.loop is not None:
        work.decision.settled_alert = work.loop.alert
        work.put(loop=loops.anew(work.loop))
    work.put(review_cycles=0)


def reset(work: Pass, token: str) -> bool:
    """A person reset the counts. A contained mission goes on: in Review where it was there, else it is assigned again.
    Whether it moved."""
    contained = work.state is MissionState.BLOCKED and work.block_reason() == MissionReason.LOOP_DETECTED
    in_review = work.status.resume_state is MissionState.REVIEW and work.status.deliverable is not None
    begin_anew(work)
    if not contained:
        return False
    work.put(resume_state=None, ready_since=None, attempts=0)
    text = "the counts of loop detection were reset"
    if in_review:
        work.move(MissionState.IN_PROGRESS, DECLARED, MissionReason.WAITING, text, key=f"reset/{token}")
        work.move(MissionState.REVIEW, DECLARED, MissionReason.AWAITING_REVIEW, text, key=f"reset/{token}/review")
    else:
        work.move(MissionState.ASSIGNED, DECLARED, MissionReason.WAITING, text, key=f"reset/{token}")
    return True


def settle_alert(work: Pass) -> None:
    """The alert is over once the mission is no longer blocked."""
    loop = work.loop
    if loop.alert and work.state is not MissionState.BLOCKED:
        work.decision.settled_alert = loop.alert
        work.put(loop=loop.model_copy(update={"alert": ""}))
