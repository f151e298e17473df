"""Missions whose first run was ordered in this transaction: what the pass after that would read, and find.

That pass finds nothing to do where the mission waits for nothing but its run. For such a mission it need not be made:
its memory is known from what the order wrote. All others are looked at.
"""

from __future__ import annotations

from controllers.holds.stops import Stops
from controllers.runtime.recall import Memory, Token
from controllers.runtime.result import DONE
from schemas.base import Key
from schemas.mission import MissionSpec, MissionState, MissionStatus
from schemas.parsed import parsed
from schemas.resource import Resource
from schemas.run import RunState
from store.contract import Transaction


def memory(tx: Transaction, mission: Resource, stops: Stops) -> Memory | None:
    """Of the pass over a mission that this transaction gave its first run; None where that may have something to do,
    or may read what is not known here."""
    if mission.state != MissionState.IN_PROGRESS or mission.status.get("totalRuns") != 1:
        return None
    spec, status = parsed(MissionSpec, mission.spec), parsed(MissionStatus, mission.status)
    if status.current_run is None or not _waits_for_its_run(mission, spec, status):
        return None
    run = tx.get(Key("Run", mission.namespace, status.current_run))
    if run is None or run.state != RunState.PENDING or run.status.get("cancelRequestedAt"):
        return None
    if stops.committed or tx.objects("Hold"):
        return None
    assert spec.agent_ref is not None
    agent = tx.get(spec.agent_ref.key("Agent", mission.namespace))
    if agent is None:
        return None
    read: list[Token] = [mission.uid, run.uid, "*Hold", "*ApprovalRequest"]
    keys = [ref.key("Mission", mission.namespace) for ref in spec.depends_on]
    found = tx.get_many(keys)
    read += [found[key].uid if key in found else key for key in keys]
    # Its agent counts its runs all the time, which nothing of the mission follows from.
    return Memory(DONE, tuple(read), tx.latest_version(), tx.now, there=((agent.uid, agent.key),))


def _waits_for_its_run(mission: Resource, spec: MissionSpec, status: MissionStatus) -> bool:
    """Whether there is no moment to watch for, and nothing that somebody asked or was asked."""
    return (
        spec.agent_ref is not None
        and spec.deadline is None
        and mission.deletion_at is None
        and status.loop is None
        and status.review_request is None
        and status.proposed is None
        and status.awaits_follow_up is None
        and not status.action_requests
    )
