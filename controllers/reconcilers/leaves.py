"""Leaves that people gave for actions: finding the one that covers an act, and using it.

Both are called inside the transaction that lets the act through, so an approval and its effect stand or fall together:
no crash loses a leave, and none is used twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from controllers.reconcilers import consent, writing
from decisions.approvals import Allowance, Leave, Use, allows
from schemas.approval_decision import DecisionScope
from schemas.approval_request import (
    ApprovalRequestReason,
    ApprovalRequestSpec,
    ApprovalRequestStatus,
    LeaveReason,
    RequestState,
    RequestType,
)
from schemas.base import Key
from schemas.conditions import set_condition
from schemas.event import EventType
from schemas.resource import Resource
from store.contract import Transaction


@dataclass(frozen=True, slots=True)
class By:
    """Who uses a leave: a run, for one act. ``digest`` is the actionDigest of the act as it is about to be done;
    ``key`` names the act, such as the uid of its ToolCall: asked again under the same key it is the same act."""

    run: Resource
    digest: str
    key: str


def standing(tx: Transaction, run: Resource, digest: str) -> Resource | None:
    """The request whose leave covers this exact action of this run now; None when there is none.

    Of several, one that may be used more than once comes first, so that none is used up without need. Nothing is used
    by asking: ``consume`` does that.
    """
    use = Use(digest, str(run.spec["missionUid"]), "", _sessions(run))
    found = []
    for request in _of_mission(tx, run, digest, RequestState.APPROVED):
        leave = _leave(tx, request)
        if allows(leave, use, tx.now).granted:
            found.append((leave.scope is DecisionScope.ONCE, request.created_at, request.name, request))
    return min(found, key=lambda item: item[:3])[3] if found else None


def waiting(tx: Transaction, run: Resource, digest: str) -> Resource | None:
    """The open request about this exact action of the run's mission: asking again is the same question. One whose
    approvals are not enough any more, as policies say now, is opened again."""
    pending = _of_mission(tx, run, digest, RequestState.PENDING)
    if pending:
        return pending[0]
    use = Use(digest, str(run.spec["missionUid"]), "", _sessions(run))
    for request in _of_mission(tx, run, digest, RequestState.APPROVED):
        outcome = allows(_leave(tx, request), use, tx.now)
        if outcome.reason is LeaveReason.AWAITING_QUORUM:
            return reopen(tx, request, outcome.message)
    return None


def consume(tx: Transaction, request: Resource, by: By) -> Allowance:
    """Use the leave for one act, in the transaction of the act. Only when ``granted`` may the act go ahead.

    Repeated under the same key it grants the same act and uses nothing more. Where policies now ask for more approvals
    than were given, the request is open again. Raises Conflict when ``request`` is stale.
    """
    use = Use(by.digest, str(by.run.spec["missionUid"]), by.key, _sessions(by.run))
    outcome = allows(_leave(tx, request), use, tx.now)
    if outcome.reason is LeaveReason.AWAITING_QUORUM:
        reopen(tx, request, outcome.message)
    elif outcome.granted and not outcome.repeated:
        use_up(tx, request, by.key, f"for {by.run.key.short}", related=(by.run.uid,))
    return outcome


def look(tx: Transaction, request: Resource, run: Resource) -> Allowance:
    """Whether the leave of a request would cover one more act of ``run`` now. Uses nothing."""
    use = Use(str(request.spec["actionDigest"]), str(run.spec["missionUid"]), "", _sessions(run))
    return allows(_leave(tx, request), use, tx.now)


def use_up(tx: Transaction, request: Resource, key: str, message: str, *, related: tuple[str, ...] = ()) -> Resource:
    """Record that a leave was used for the act ``key``."""
    status = ApprovalRequestStatus.model_validate(request.status)
    conditions = set_condition(
        status.conditions, "Succeeded", True, ApprovalRequestReason.CONSUMED, "the leave was used",
        now=tx.now, generation=request.generation,
    )  # fmt: skip
    used = status.model_copy(
        update={
            "conditions": conditions,
            "consumed_at": status.consumed_at or tx.now,
            "consumed_by": key,
            "uses": status.uses + 1,
        }
    )
    request = writing.put_status(tx, request, used)
    data = {"related": [request.owner_uid, *related], "key": key, "uses": used.uses}
    tx.event(EventType.LEAVE_USED, request, reason=status.scope or DecisionScope.ONCE, message=message, data=data)
    return request


def reopen(tx: Transaction, request: Resource, why: str) -> Resource:
    """Make an approved request an open question again: its approvals are not enough any more."""
    status = ApprovalRequestStatus.model_validate(request.status)
    question = consent.question_of(tx, request)
    conditions = set_condition(
        status.conditions, "Succeeded", None, ApprovalRequestReason.PENDING, why,
        now=tx.now, generation=request.generation,
    )  # fmt: skip
    update = {
        "state": RequestState.PENDING,
        "conditions": conditions,
        "decided_by": "",
        "decided_at": None,
        "quorum": consent.shown_quorum(question.approvals, question.rules),
        "may_answer": consent.in_words(question.rules),
    }
    request = writing.put_status(tx, request, status.model_copy(update=update))
    data = {"related": [request.owner_uid], "subject": request.spec["subject"]}
    tx.event(EventType.APPROVAL_REQUESTED, request, reason="Reopened", message=why, data=data)
    return request


def _of_mission(tx: Transaction, run: Resource, digest: str, state: RequestState) -> list[Resource]:
    """Requests about an exact action that runs of one mission made, oldest first."""
    found = tx.objects(
        "ApprovalRequest", namespace=run.namespace, states=(state.value,), owner_uid=str(run.spec["missionUid"])
    )
    wanted = [r for r in found if r.spec["type"] == RequestType.ACTION and r.spec["actionDigest"] == digest]
    return sorted(wanted, key=lambda r: (r.created_at, r.name))


def _leave(tx: Transaction, request: Resource) -> Leave:
    spec = ApprovalRequestSpec.model_validate(request.spec)
    status = ApprovalRequestStatus.model_validate(request.status)
    asked_by = tx.get(Key("Run", request.namespace, spec.run)) if spec.run else None
    return Leave(
        digest=spec.action_digest if spec.type is RequestType.ACTION else "",
        mission=request.owner_uid,
        state=status.state,
        approvals=consent.approvals_of(tx, request.namespace, status),
        rules=consent.rules_of(tx, request.namespace, spec),
        scope=status.scope or DecisionScope.ONCE,
        until=status.until,
        expires_at=spec.expires_at,
        uses=status.uses,
        used_for=status.consumed_by,
        sessions=_sessions(asked_by) if asked_by is not None else frozenset(),
    )


def _sessions(run: Resource) -> frozenset[str]:
    """What a run's conversation goes by: the run itself, and the agent program's session that it began or resumed."""
    found = {f"run/{run.uid}"}
    session = run.status.get("sessionId")
    if session:
        found.add(f"session/{run.spec.get('agentUid')}/{session}")
    return frozenset(found)
