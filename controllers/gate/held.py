"""The Hold that stops a run, as things stand in this transaction; and what becomes of leave that was given before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from controllers.holds import effective
from controllers.holds.stops import Stops
from controllers.runs import inbox
from decisions.holds import Held, HoldFacts, held_by
from schemas.authorize import Decision, DecisionWord
from schemas.hold import HoldMode, HoldScope
from schemas.resource import Resource
from schemas.tool_call import ToolCallReason
from store.contract import Snapshot, Transaction


def held(tx: Transaction, run: Resource, stops: Stops, holds: Sequence[HoldFacts]) -> Held | None:
    """The strictest of ``holds``, which are those of the store, in force on the run's mission, agent, executor, project
    or goal, its tenant, or everything; None when there is none. ESTOP files are looked for now, under the write lock,
    and become Holds."""
    if stops.everywhere():
        holds = effective.taken_in(tx, stops)
    return inbox.strictest_on(tx, run, holds, tx.now) if holds else None


def as_it_stands(snapshot: Snapshot, run: Resource, decision: Decision, stops: Stops, now: datetime) -> Decision:
    """An answer that was found, and not made now: an allow of before a stop is none after it. The record stays."""
    if decision.decision is not DecisionWord.ALLOW:
        return decision
    return _unless(decision, inbox.held(snapshot, run, now, stops))


def before_it_goes_out(decision: Decision, run: Resource, stops: Stops) -> Decision:
    """An allow that was committed, just before it is told: a file that came meanwhile takes it back."""
    if decision.decision is not DecisionWord.ALLOW:
        return decision
    return _unless(decision, _whole(stops.everywhere(), run.namespace))


def _whole(beside: Iterable[HoldFacts], namespace: str) -> Held | None:
    for hold in beside:
        scope = hold.spec.scope
        if scope is HoldScope.GLOBAL or (scope is HoldScope.TENANT and hold.key.namespace == namespace):
            return held_by(hold)
    return None


def _unless(decision: Decision, found: Held | None) -> Decision:
    if found is None or found.mode is not HoldMode.STOP:
        return decision
    return decision.model_copy(
        update={
            "decision": DecisionWord.DENY,
            "code": ToolCallReason.HELD,
            "reason": f"it was allowed, and stopped since by {found.placed_by}: {found.reason}",
            "rule": found.hold.short,
            "remedy": found.remedy,
        }
    )
