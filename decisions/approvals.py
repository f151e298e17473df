"""Whether a decision counts. Digest-bound, in time, by somebody who may; the first answer wins, and Deny beats all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from schemas.approval_decision import ApprovalDecisionReason, ApprovalDecisionSpec, DecisionScope, DecisionVerdict
from schemas.approval_request import ApprovalRequestSpec, RequestState, RequestType

_OUTCOME = {
    DecisionVerdict.APPROVE: RequestState.APPROVED,
    DecisionVerdict.DENY: RequestState.DENIED,
    DecisionVerdict.CHANGES_REQUESTED: RequestState.CHANGES_REQUESTED,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What one ApprovalDecision says, and who proved to have said it. ``subject`` is "" when nobody was proven."""

    name: str
    spec: ApprovalDecisionSpec
    subject: str
    transport: str
    made_at: datetime


@dataclass(frozen=True, slots=True)
class Question:
    """The request, as it stands. ``approvals`` are the subjects whose approval counts already."""

    uid: str
    spec: ApprovalRequestSpec
    state: RequestState
    approvals: tuple[str, ...]
    consumed: bool


@dataclass(frozen=True, slots=True)
class Ruling:
    """Whether it counts, and the state of the request after it (None: unchanged)."""

    counts: bool
    reason: ApprovalDecisionReason
    message: str
    state: RequestState | None = None


def rule(answer: Answer, question: Question | None, now: datetime) -> Ruling:
    """Judge one answer. Pure; an answer that was judged before is not given here again."""
    reasons, spec = ApprovalDecisionReason, answer.spec
    if question is None:
        return Ruling(False, reasons.REQUEST_NOT_FOUND, f"there is no request {spec.request_ref.name}")
    asked = question.spec
    if spec.request_ref.uid != question.uid or spec.action_digest != asked.action_digest:
        return Ruling(False, reasons.STALE_DECISION, "it answers another action: read the request again")
    if not answer.subject:
        return Ruling(False, reasons.IDENTITY_UNPROVEN, f"{answer.transport or 'the transport'} proves nobody")
    if asked.separation_of_duties and answer.subject == asked.requester:
        return Ruling(False, reasons.SELF_APPROVAL, "who asks cannot answer")
    if spec.verdict is DecisionVerdict.REVOKE:
        return _revoke(question)
    if question.state is not RequestState.PENDING:
        if question.state is RequestState.EXPIRED:
            return Ruling(False, reasons.EXPIRED, "it was answered too late")
        return Ruling(False, reasons.ALREADY_DECIDED, f"another answer came first: {question.state}")
    if now >= asked.expires_at or (spec.until is not None and now >= spec.until):
        return Ruling(False, reasons.EXPIRED, "it was answered too late")
    if spec.scope is not DecisionScope.ONCE and asked.type is not RequestType.ACTION:
        return Ruling(False, reasons.STALE_DECISION, f"a {asked.type} is answered once: use scope Once")
    if spec.verdict is DecisionVerdict.CHANGES_REQUESTED and asked.type is not RequestType.REVIEW:
        return Ruling(False, reasons.STALE_DECISION, "ChangesRequested answers a Review only: approve or deny")
    if spec.verdict is DecisionVerdict.APPROVE:
        if answer.subject in question.approvals:
            return Ruling(False, reasons.ALREADY_DECIDED, f"{answer.subject} approved it before")
        if len(question.approvals) + 1 < asked.quorum:
            missing = asked.quorum - len(question.approvals) - 1
            return Ruling(True, reasons.AWAITING_QUORUM, f"{missing} more approval(s) needed")
    return Ruling(True, reasons.COUNTED, "", _OUTCOME[spec.verdict])


def _revoke(question: Question) -> Ruling:
    reasons = ApprovalDecisionReason
    if question.consumed:
        return Ruling(False, reasons.ALREADY_CONSUMED, "the leave was used")
    if question.state is not RequestState.APPROVED or question.spec.type is not RequestType.ACTION:
        return Ruling(False, reasons.ALREADY_DECIDED, f"there is nothing to revoke: {question.state}")
    return Ruling(True, reasons.COUNTED, "", RequestState.DENIED)
