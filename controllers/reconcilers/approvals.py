"""ApprovalDecision and ApprovalRequest: an answer is judged once, in the transaction that changes the request."""

from __future__ import annotations

from dataclasses import replace

from controllers.reconcilers import writing
from controllers.runtime.result import DONE, Result
from decisions.approvals import Answer, Question, Ruling, rule
from schemas.approval_decision import ApprovalDecisionReason, ApprovalDecisionSpec, ApprovalDecisionStatus
from schemas.approval_request import (
    ApprovalRequestReason,
    ApprovalRequestSpec,
    ApprovalRequestStatus,
    RequestState,
)
from schemas.base import Key
from schemas.conditions import find, set_condition
from schemas.event import EventType
from schemas.resource import Actor, ActorKind, Resource
from store.contract import Transaction

_REASONS = {
    RequestState.APPROVED: ApprovalRequestReason.APPROVED,
    RequestState.DENIED: ApprovalRequestReason.DENIED,
    RequestState.CHANGES_REQUESTED: ApprovalRequestReason.CHANGES_REQUESTED,
    RequestState.EXPIRED: ApprovalRequestReason.EXPIRED,
}


def reconcile_decision(tx: Transaction, key: Key) -> Result:
    """Judge an answer once; an answer that was judged stays as it is, and its removal changes nothing."""
    decision = tx.get(key)
    if decision is None:
        return DONE
    if decision.deletion_at is not None:
        tx.remove(decision)
        return DONE
    status = ApprovalDecisionStatus.model_validate(decision.status)
    judged = find(status.conditions, "Succeeded")
    if judged is not None and judged.status != "Unknown":
        return DONE
    spec = ApprovalDecisionSpec.model_validate(decision.spec)
    request = tx.get(Key("ApprovalRequest", key.namespace, spec.request_ref.name))
    answer = Answer(decision.name, spec, status.subject, status.transport, decision.created_at)
    ruling = rule(answer, _question(tx, request), tx.now)
    if ruling.reason is ApprovalDecisionReason.IDENTITY_UNPROVEN and status.unproven:
        ruling = replace(ruling, message=status.unproven)
    conditions = set_condition(
        status.conditions, "Succeeded", ruling.counts, ruling.reason, ruling.message, now=tx.now,
        generation=decision.generation,
    )  # fmt: skip
    decision = writing.put_status(
        tx,
        decision,
        status.model_copy(update={"conditions": conditions, "observed_generation": decision.generation}),
    )
    _record(tx, decision, request, answer, ruling)
    return DONE


def _question(tx: Transaction, request: Resource | None) -> Question | None:
    if request is None:
        return None
    status = ApprovalRequestStatus.model_validate(request.status)
    subjects = []
    for name in status.decisions:
        decision = tx.get(Key("ApprovalDecision", request.namespace, name))
        if decision is not None:
            subjects.append(str(decision.status.get("subject", "")))
    return Question(
        uid=request.uid,
        spec=ApprovalRequestSpec.model_validate(request.spec),
        state=status.state,
        approvals=tuple(subjects),
        consumed=status.consumed_at is not None,
    )


def _record(tx: Transaction, decision: Resource, request: Resource | None, answer: Answer, ruling: Ruling) -> None:
    person = Actor(ActorKind.HUMAN, answer.subject or "unproven", answer.transport or "Unknown")
    related = [decision.uid, *([request.uid, request.owner_uid] if request is not None else [])]
    data = {"related": related, "request": answer.spec.request_ref.name, "verdict": answer.spec.verdict.value}
    if not ruling.counts or request is None:
        tx.event(
            EventType.DECISION_REFUSED, decision, reason=ruling.reason, message=ruling.message, data=data, actor=person
        )
        return
    status = ApprovalRequestStatus.model_validate(request.status)
    update: dict[str, object] = {"decisions": (*status.decisions, decision.name)}
    if ruling.state is not None:
        reason = _REASONS[ruling.state]
        update |= {
            "state": ruling.state,
            "decided_by": answer.subject,
            "decided_at": tx.now,
            "conditions": set_condition(
                status.conditions,
                "Succeeded",
                ruling.state is RequestState.APPROVED,
                reason,
                answer.spec.reason[:500],
                now=tx.now,
                generation=request.generation,
            ),
        }
        tx.clear_timer(request.key, writing.WAKE)
    request = writing.put_status(tx, request, status.model_copy(update=update))
    message = answer.spec.reason or f"{answer.spec.verdict} by {answer.subject}"
    tx.event(EventType.APPROVAL_DECIDED, request, reason=ruling.reason, message=message, data=data, actor=person)


def reconcile_request(tx: Transaction, key: Key) -> Result:
    """Remind once at half time; expire at the end. Never granted by time."""
    request = tx.get(key)
    if request is None:
        return writing.gone(tx, key)
    status = ApprovalRequestStatus.model_validate(request.status)
    if status.state is not RequestState.PENDING:
        return writing.wake_at(tx, request, None)
    spec = ApprovalRequestSpec.model_validate(request.spec)
    related = {"related": [request.owner_uid], "subject": spec.subject}
    if tx.now >= spec.expires_at:
        conditions = set_condition(
            status.conditions, "Succeeded", False, ApprovalRequestReason.EXPIRED, "nobody answered in time",
            now=tx.now, generation=request.generation,
        )  # fmt: skip
        expired = status.model_copy(update={"state": RequestState.EXPIRED, "conditions": conditions})
        request = writing.put_status(tx, request, expired)
        tx.event(
            EventType.APPROVAL_EXPIRED, request, reason=spec.on_timeout, message="nobody answered in time", data=related
        )
        return writing.wake_at(tx, request, None)
    if spec.remind_at is not None and status.reminded_at is None:
        if tx.now < spec.remind_at:
            return writing.wake_at(tx, request, spec.remind_at)
        request = writing.put_status(tx, request, status.model_copy(update={"reminded_at": tx.now}))
        tx.event(
            EventType.APPROVAL_REQUESTED, request, reason="Reminder", message=f"still waits: {spec.title}", data=related
        )
    return writing.wake_at(tx, request, spec.expires_at)
