"""ApprovalDecision and ApprovalRequest: an answer is judged once, in the transaction that changes the request."""

from __future__ import annotations

from dataclasses import replace

from controllers.reconcilers import alarming, alerts, consent, extensions, writing
from controllers.runtime.result import DONE, Result
from controllers.status import proposals
from decisions.approvals import Answer, Question, Ruling, ends_at, reach, rule
from schemas.alert import AlertType, Severity
from schemas.approval_decision import (
    ApprovalDecisionReason,
    ApprovalDecisionSpec,
    ApprovalDecisionStatus,
    DecisionScope,
    DecisionVerdict,
)
from schemas.approval_request import (
    ApprovalRequestReason,
    ApprovalRequestSpec,
    ApprovalRequestStatus,
    GivenApproval,
    OnTimeout,
    RequestState,
    RequestType,
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
    roles = consent.roles_of(tx, key.namespace, status.subject, status.groups)
    answer = Answer(decision.name, spec, status.subject, status.transport, decision.created_at, roles)
    question = consent.question_of(tx, request) if request is not None else None
    ruling = rule(answer, question, tx.now)
    if ruling.reason is ApprovalDecisionReason.IDENTITY_UNPROVEN and status.unproven:
        ruling = replace(ruling, message=status.unproven)
    conditions = set_condition(
        status.conditions, "Succeeded", ruling.counts, ruling.reason, ruling.message, now=tx.now,
        generation=decision.generation,
    )  # fmt: skip
    status = status.model_copy(update={"conditions": conditions, "observed_generation": decision.generation})
    decision = writing.put_status(tx, decision, status)
    if ruling.counts and request is not None and question is not None:
        _count(tx, decision, request, question, answer, ruling)
    else:
        _refuse(tx, decision, request, answer, ruling)
    return DONE


def _person(answer: Answer) -> Actor:
    return Actor(ActorKind.HUMAN, answer.subject or "unproven", answer.transport or "Unknown")


def _data(answer: Answer, request: Resource | None, uid: str) -> dict[str, object]:
    related = [uid, *([request.uid, request.owner_uid] if request is not None else [])]
    return {"related": related, "request": answer.spec.request_ref.name, "verdict": answer.spec.verdict.value}


def _refuse(tx: Transaction, decision: Resource, request: Resource | None, answer: Answer, ruling: Ruling) -> None:
    alarming.of_refusal(tx, decision, request, answer.subject, ruling.reason)
    tx.event(
        EventType.DECISION_REFUSED, decision, reason=ruling.reason, message=ruling.message,
        data=_data(answer, request, decision.uid), actor=_person(answer),
    )  # fmt: skip


def _count(
    tx: Transaction, decision: Resource, request: Resource, question: Question, answer: Answer, ruling: Ruling
) -> None:
    """Bring the request to what the answer makes of it."""
    said = ApprovalDecisionStatus.model_validate(decision.status)
    status = ApprovalRequestStatus.model_validate(request.status)
    spec = answer.spec
    if spec.verdict is DecisionVerdict.APPROVE:
        given = GivenApproval(
            subject=answer.subject, groups=said.groups, transport=answer.transport, scope=spec.scope, until=spec.until,
            at=tx.now, decision=answer.name, reason=spec.reason[:500], grant=spec.grant,
        )  # fmt: skip
        status = status.model_copy(update={"approvals": (*status.approvals, given)})
    counted = consent.approvals_of(tx, request.namespace, status)
    update: dict[str, object] = {
        "decisions": (*status.decisions, answer.name),
        "quorum": consent.shown_quorum(counted, question.rules),
        "may_answer": consent.in_words(question.rules),
    }
    if ruling.state is not None:
        update |= _decided(tx, request, status, answer, ruling.state)
    if ruling.state is RequestState.APPROVED:
        scope, until = reach(counted)
        update |= {"scope": scope, "until": until}
        if question.spec.type is RequestType.BUDGET:
            update["extension"] = extensions.of(question.spec, status.approvals)
    request = writing.put_status(tx, request, status.model_copy(update=update))
    tx.event(
        EventType.APPROVAL_DECIDED, request, reason=ruling.reason,
        message=spec.reason or f"{spec.verdict} by {answer.subject}",
        data=_data(answer, request, decision.uid), actor=_person(answer),
    )  # fmt: skip


def _decided(
    tx: Transaction, request: Resource, status: ApprovalRequestStatus, answer: Answer, state: RequestState
) -> dict[str, object]:
    conditions = set_condition(
        status.conditions, "Succeeded", state is RequestState.APPROVED, _REASONS[state], answer.spec.reason[:500],
        now=tx.now, generation=request.generation,
    )  # fmt: skip
    return {
        "state": state,
        "decided_by": answer.subject,
        "decided_via": answer.transport,
        "decided_at": tx.now,
        "conditions": conditions,
    }


def reconcile_request(tx: Transaction, key: Key) -> Result:
    """Remind once at half time; expire at the end, also a leave that was given. Never granted by time."""
    request = tx.get(key)
    if request is None:
        return writing.gone(tx, key)
    status = ApprovalRequestStatus.model_validate(request.status)
    spec = ApprovalRequestSpec.model_validate(request.spec)
    if status.state is RequestState.APPROVED and spec.type is RequestType.ACTION:
        return _keep_leave(tx, request, spec, status)
    if status.state is RequestState.APPROVED and spec.type is RequestType.BUDGET:
        return extensions.keep(tx, request, status)
    if status.state is not RequestState.PENDING:
        if spec.type is RequestType.CHANGE:
            proposals.close_when_answered(tx, request)
        return writing.wake_at(tx, request, None)
    if tx.now >= spec.expires_at:
        request = _expire(tx, request, spec, status, "nobody answered in time")
        if spec.type is RequestType.CHANGE:
            proposals.close_when_answered(tx, request)
        _alarm(tx, request, spec)
        return writing.wake_at(tx, request, None)
    if spec.remind_at is not None and status.reminded_at is None:
        if tx.now < spec.remind_at:
            return writing.wake_at(tx, request, spec.remind_at)
        request = writing.put_status(tx, request, status.model_copy(update={"reminded_at": tx.now}))
        tx.event(
            EventType.APPROVAL_REQUESTED, request, reason="Reminder", message=f"still waits: {spec.title}",
            data={"related": [request.owner_uid], "subject": spec.subject},
        )  # fmt: skip
    return writing.wake_at(tx, request, spec.expires_at)


def _keep_leave(tx: Transaction, request: Resource, spec: ApprovalRequestSpec, status: ApprovalRequestStatus) -> Result:
    """A leave ends by its use, or by time; one that was used stays Approved in the record."""
    scope = status.scope or DecisionScope.ONCE
    if scope is DecisionScope.ONCE and status.uses:
        return writing.wake_at(tx, request, None)
    end = ends_at(scope, status.until, spec.expires_at)
    if tx.now < end:
        return writing.wake_at(tx, request, end)
    if status.uses == 0:
        request = _expire(tx, request, spec, status, "the leave was not used in time")
    return writing.wake_at(tx, request, None)


def _expire(
    tx: Transaction, request: Resource, spec: ApprovalRequestSpec, status: ApprovalRequestStatus, why: str
) -> Resource:
    conditions = set_condition(
        status.conditions, "Succeeded", False, ApprovalRequestReason.EXPIRED, why,
        now=tx.now, generation=request.generation,
    )  # fmt: skip
    expired = status.model_copy(update={"state": RequestState.EXPIRED, "conditions": conditions})
    request = writing.put_status(tx, request, expired)
    tx.event(
        EventType.APPROVAL_EXPIRED, request, reason=spec.on_timeout, message=why,
        data={"related": [request.owner_uid], "subject": spec.subject},
    )  # fmt: skip
    return request


def _alarm(tx: Transaction, request: Resource, spec: ApprovalRequestSpec) -> None:
    """Nobody answered: about what was asked for, so that several questions of one mission are one alert."""
    subject = tx.get_by_uid(request.owner_uid) or request
    parked = "it is parked until a person answers" if spec.on_timeout is OnTimeout.PARK else "it counts as refused"
    if spec.type is RequestType.CHANGE:
        parked = "its branch is closed, and nothing changes"
    alerts.raise_alert(
        tx,
        AlertType.APPROVAL_TIMEOUT,
        subject,
        severity=Severity.HIGH,
        title=f"nobody answered for {subject.key.short} in time",
        message=f"{spec.title}: {parked}. Look at it (remit describe {request.key.short}), then answer what "
        f"{subject.key.short} asks next, or cancel it",
        details={
            "request": request.name,
            "asked": spec.type.value,
            "onTimeout": spec.on_timeout.value,
            "run": spec.run,
        },
        related=[request.uid],
    )
