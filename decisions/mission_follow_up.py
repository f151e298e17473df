"""A mission whose agent ended its run until a follow-up is due: the wait costs no process and no attempt, and the next
run starts when the follow-up is due, or as soon as somebody says something.
"""

from __future__ import annotations

from datetime import datetime

from decisions.mission_facts import RunFacts
from decisions.mission_pass import Pass
from schemas.mission import MissionState
from schemas.run import RunReason


def begins(work: Pass, run: RunFacts) -> bool:
    """Take in a run that ended because it could only wait for a follow-up; False where there is none to wait for, and
    the end is booked as a failure."""
    talk = work.facts.talk
    if run.reason != RunReason.AWAITING_FOLLOW_UP or not run.retryable or talk is None:
        return False
    ended = run.ended_at or work.now
    told = talk.told_at is not None and talk.told_at > (run.started_at or ended)
    if talk.due_at is None and not told:
        return False
    work.put(
        attempts=max(0, work.status.attempts - 1),
        next_attempt_at=work.now if told else talk.due_at,
        awaits_follow_up=ended,
        ready_since=None,
        failure=None,
    )
    return True


def wait(work: Pass) -> None:
    """Keep the moment of the next run where the follow-up is."""
    since, talk = work.status.awaits_follow_up, work.facts.talk
    if since is None:
        return
    if work.state is not MissionState.IN_PROGRESS or work.run is not None:
        work.put(awaits_follow_up=None)
        return
    due = work.now if talk is None or talk.due_at is None else talk.due_at
    if talk is not None and talk.told_at is not None and talk.told_at >= since:
        due = work.now
    known: datetime | None = work.status.next_attempt_at
    if known is None or (due != known and (due > work.now or known > work.now)):
        work.put(next_attempt_at=due, ready_since=work.status.ready_since if due <= work.now else None)
