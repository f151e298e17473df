"""Mission: gather the facts, decide, carry out. Which admitted mission takes a free place is up to ``dispatcher``."""

from __future__ import annotations

from dataclasses import asdict

from controllers.holds import effective
from controllers.holds import stops as other
from controllers.holds.stops import Stops
from controllers.reconcilers import alarming, alerts, breaches, consent, containing, extensions, facts, leaves, writing
from controllers.runs import records
from controllers.runs.companions import end_companions
from controllers.runtime.result import DONE, Done, RequeueAfter, Result
from decisions import mission as decisions
from decisions.mission_facts import AskPerson, Decision, MissionFacts
from schemas.alert import AlertType
from schemas.approval_decision import DecisionScope
from schemas.approval_request import (
    ApprovalRequestReason,
    ApprovalRequestSpec,
    ApprovalRequestStatus,
    RequestState,
    RequestType,
)
from schemas.base import Key
from schemas.conditions import set_condition
from schemas.event import EventType
from schemas.mission import TERMINAL_STATES, MissionState, MissionStatus
from schemas.parsed import parsed
from schemas.policy import DEFAULT_APPROVALS
from schemas.resource import Declared, Resource, digest
from schemas.run import RunReason, RunState
from store.contract import Amounts, EntryKind, LedgerEntry, Transaction

APPROVAL_LIFE = DEFAULT_APPROVALS.timeout
REMIND_AFTER = APPROVAL_LIFE / 2
CEILING_S = 60.0
"""How soon a mission above the ceiling of its tenant is looked at again at the latest; room wakes it at once."""


def reconcile(tx: Transaction, key: Key, crowd: facts.Crowd | None = None, stops: Stops = other.NONE) -> Result:
    """One pass over a mission. ``crowd`` is who waits already; ``stops`` is what stops work beside the Holds in the
    store, of which files become Holds where they end a run."""
    mission = tx.get(key)
    if mission is None:
        return writing.gone(tx, key)
    committed = stops.committed
    found = facts.mission_facts(tx, mission, [*effective.holds(tx), *committed], crowd)
    _tell_breach(tx, mission, found)
    result = carry_out(tx, mission, decisions.decide(found, tx.now))
    # What the crowd and a commit said is nothing that the store knows: the pass is not one to recall.
    beside = found.ceiling is not None or bool(committed)
    return RequeueAfter(CEILING_S) if beside and isinstance(result, Done) else result


def _tell_breach(tx: Transaction, mission: Resource, found: MissionFacts) -> None:
    agent = tx.get(found.agent_key) if found.breach is not None and found.agent_key is not None else None
    if found.breach is not None and agent is not None:
        breaches.tell(tx, found.breach, mission, agent)


def carry_out(tx: Transaction, mission: Resource, decision: Decision) -> Result:
    """Write what was decided."""
    status = decision.status
    if decision.contained is not None:
        status = containing.contain(tx, mission, status, decision.contained)
    if decision.settled_alert:
        alerts.clear(tx, Key("Alert", mission.namespace, decision.settled_alert), "the mission goes on or has ended")
    if mission.state == MissionState.BLOCKED and status.state is not MissionState.BLOCKED:
        unanswered = alerts.alert_name(AlertType.APPROVAL_TIMEOUT, mission.uid)
        alerts.clear(tx, Key("Alert", mission.namespace, unanswered), "the mission goes on or has ended")
    if decision.cancel_run is not None and status.current_run is not None:
        run = tx.get(Key("Run", mission.namespace, status.current_run))
        if run is not None:
            records.request_cancel(tx, run, decision.cancel_run)
    if decision.give_up_run is not None and status.current_run is not None:
        run = tx.get(Key("Run", mission.namespace, status.current_run))
        if run is not None:
            _give_up(tx, run, decision.give_up_run)
    if decision.ask is not None:
        _ask(tx, mission, decision.ask)
    if decision.grant is not None:
        allowed = tx.get(Key("ApprovalRequest", mission.namespace, decision.grant))
        if allowed is not None:
            extensions.extend(tx, mission, allowed)
    if decision.consume is not None:
        request = tx.get(Key("ApprovalRequest", mission.namespace, decision.consume))
        if request is not None:
            moved = status.transitions[-1]
            leaves.use_up(tx, request, moved.key, f"{mission.key.short} went to {moved.to_state}")
    if decision.close_actions:
        _close_actions(tx, mission)
    if decision.withdraw is not None:
        withdraw(tx, Key("ApprovalRequest", mission.namespace, decision.withdraw), "the question no longer stands")
    alarming.of_mission(tx, mission, status)
    mission = writing.put_status(tx, mission, status)
    writing.append(tx, mission, decision.notes)
    if decision.remove:
        tx.event(EventType.DELETION_REQUESTED, mission, reason="TtlExpired", message="its ttl after the end is over")
        left = tx.request_deletion(mission)
        if left is None:
            return DONE
        mission = left
    if mission.deletion_at is not None and _finalize(tx, mission, status):
        return DONE
    return writing.wake_at(tx, mission, decision.wake_at)


def _give_up(tx: Transaction, run: Resource, message: str) -> None:
    records.finish(
        tx,
        run.uid,
        records.Ending(state=RunState.UNKNOWN, reason=RunReason.MAY_STILL_BE_RUNNING, message=message, retryable=False),
    )


def _ask(tx: Transaction, mission: Resource, ask: AskPerson) -> None:
    """Create the request; asking the same question again changes nothing."""
    key = Key("ApprovalRequest", mission.namespace, ask.name)
    if tx.get(key) is not None:
        return
    named = mission.status.get("agent") or (mission.status.get("proposed") or {}).get("agent") or {}
    agent = tx.get(Key("Agent", named.get("namespace", mission.namespace), named["name"])) if named else None
    authored = mission if ask.type is RequestType.BUDGET else None
    terms = consent.terms(tx, mission.namespace, agent, tx.now, authored=authored)
    spec = ApprovalRequestSpec(
        type=ask.type,
        subject=str(mission.key),
        subject_uid=mission.uid,
        run=str(ask.action.get("run", "")),
        requester=f"agent:{named.get('namespace', mission.namespace)}/{named['name']}"
        if named
        else "controller:engine",
        title=ask.title,
        action=ask.action,
        action_digest=digest(ask.action),
        rule=f"spec.review ({mission.provenance.place})" if mission.provenance else "spec.review",
        **asdict(terms),
    )
    request = tx.create(
        Declared("ApprovalRequest", mission.namespace, ask.name, spec.to_wire()),
        manager="controller/missions",
        owner_uid=mission.uid,
        status=consent.first_status(spec, tx.now).to_wire(),
    )
    tx.event(
        EventType.APPROVAL_REQUESTED,
        request,
        reason=ask.type,
        message=ask.title,
        data={"related": [mission.uid], "digest": spec.action_digest, "mission": mission.name},
    )


def _close_actions(tx: Transaction, mission: Resource) -> None:
    """The round is over, or its result handed in: nobody is to answer for its actions any more, and a leave for one act
    that was not used ends."""
    for request in facts.unsettled_requests(tx, mission):
        if request.spec["type"] == RequestType.ACTION:
            withdraw(tx, request.key, "the work that asked for it has ended")


def withdraw(tx: Transaction, key: Key, why: str) -> None:
    """Take an open question back, or a leave for one act that nobody used."""
    request = tx.get(key)
    if request is None:
        return
    status = parsed(ApprovalRequestStatus, request.status)
    unused = status.uses == 0 and status.scope in (None, DecisionScope.ONCE)
    if status.state is not RequestState.PENDING and not (status.state is RequestState.APPROVED and unused):
        return
    conditions = set_condition(
        status.conditions, "Succeeded", False, ApprovalRequestReason.WITHDRAWN, why, now=tx.now,
        generation=request.generation,
    )  # fmt: skip
    request = writing.put_status(
        tx, request, status.model_copy(update={"state": RequestState.WITHDRAWN, "conditions": conditions})
    )
    tx.event(
        EventType.APPROVAL_WITHDRAWN, request, reason="Withdrawn", message=why, data={"related": [request.owner_uid]}
    )
    tx.clear_timer(key, writing.WAKE)


def _finalize(tx: Transaction, mission: Resource, status: MissionStatus) -> bool:
    """Work off the finalizers of a mission that is being deleted; True when it is gone. ``decide`` stops the open run
    and, past its deadline, gives it up, so that an unreachable worker cannot hold the deletion for ever."""
    if status.state not in TERMINAL_STATES or status.current_run is not None:
        return False
    for request in tx.objects("ApprovalRequest", namespace=mission.namespace, owner_uid=mission.uid):
        withdraw(tx, request.key, "the mission is being deleted")
        extensions.end(tx, tx.get(request.key) or request, "its mission is being deleted")
    account = mission_account(mission.uid)
    for entry in tx.open_reservations(account=account):
        tx.post(
            LedgerEntry(
                key=f"release/{entry.key}",
                kind=EntryKind.RELEASE,
                accounts=entry.accounts,
                amounts=entry.amounts,
                at=tx.now,
                reservation=entry.key,
            )
        )
        end_companions(tx, entry.key, Amounts())
    for kind in ("Run", "ApprovalRequest", "Message", "Thread", "Session", "Alert"):
        for record in tx.objects(kind, namespace=mission.namespace, owner_uid=mission.uid):
            for call in tx.objects("ToolCall", namespace=mission.namespace, owner_uid=record.uid):
                tx.remove(call)
            tx.clear_timer(record.key, writing.WAKE)
            tx.remove(record)
    tx.clear_timer(mission.key, writing.WAKE)
    mission = tx.put_finalizers(mission, ())
    tx.event(EventType.DELETED, mission, reason="Finalized", message="drained, approvals closed, budget released")
    tx.remove(mission)
    return True


def mission_account(uid: str) -> str:
    """Ledger account of everything that a mission ever used."""
    return f"mission/{uid}/total"
