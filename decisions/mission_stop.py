"""Having the open run of a mission stopped."""

from __future__ import annotations

from datetime import timedelta

from decisions.mission_pass import Pass
from schemas.event import EventType

CANCEL_DEADLINE = timedelta(minutes=2)
"""How long a worker is told to stop before the run is given up as one that may still be running."""


def told_to_stop(work: Pass, reason: str, message: str) -> bool:
    """Have the open run stopped; True while it still runs. Past the deadline it is given up."""
    run = work.run
    if run is None:
        return False
    since = run.cancel_requested_at
    if since is None:
        work.decision.cancel_run = reason
        work.note(EventType.CANCEL_REQUESTED, reason, message, run=run.name)
        since = work.now
    give_up = since + CANCEL_DEADLINE
    if work.now >= give_up:
        work.decision.give_up_run = f"told to stop ({message}) and not heard of since; it may still be running"
        return True
    work.block("Worker", f"Run/{work.facts.key.namespace}/{run.name}", message, since=since, until=give_up)
    work.wake(give_up)
    return True
