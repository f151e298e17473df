"""Whether an answer counts, and what a leave that was given covers.

An answer fits one exact action, in time, by somebody who may; each person counts once. A Deny beats every approval for
as long as the leave was not used. Rules are those the request was made under and those in force now, whichever is
stricter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from decisions import extension
from schemas.approval_decision import (
    PROVING,
    ApprovalDecisionReason,
    ApprovalDecisionSpec,
    BudgetGrant,
    DecisionScope,
    DecisionVerdict,
)
from schemas.approval_request import ApprovalRequestSpec, LeaveReason, RequestState, RequestType
from schemas.policy import Approvers
from schemas.tenant import Role

_OUTCOME = {
    DecisionVerdict.APPROVE: RequestState.APPROVED,
    DecisionVerdict.DENY: RequestState.DENIED,
    DecisionVerdict.CHANGES_REQUESTED: RequestState.CHANGES_REQUESTED,
}
_NARROW = (DecisionScope.ONCE, DecisionScope.SESSION, DecisionScope.UNTIL)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one ApprovalDecision says, and who proved to have said it. ``subject`` is "" when nobody was proven.
    ``roles`` are theirs in the tenant; None where no tenant tells roles apart."""

    name: str
    spec: ApprovalDecisionSpec
    subject: str
    transport: str
    made_at: datetime
    roles: frozenset[Role] | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """Who may answer, and how many have to. Each of ``approvers`` must accept somebody; ``apart`` are the subjects who
    may not approve."""

    quorum: int = 1
    approvers: tuple[Approvers, ...] = ()
    apart: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Approval:
    """One approval that was counted when it was given."""

    subject: str
    scope: DecisionScope = DecisionScope.ONCE
    until: datetime | None = None
    roles: frozenset[Role] | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """The request, as it stands. ``approvals`` counted already, in order. ``standing`` says whether its leave may be
    used more than once; ``uses`` how often it was."""

    uid: str
    spec: ApprovalRequestSpec
    state: RequestState
    rules: Rules
    approvals: tuple[Approval, ...] = ()
    uses: int = 0
    standing: bool = False


@dataclass(frozen=True, slots=True)
class Ruling:
    """Whether it counts, and the state of the request after it (None: unchanged)."""

    counts: bool
    reason: ApprovalDecisionReason
    message: str
    state: RequestState | None = None


def same_person(one: str, other: str) -> bool:
    """Whether two subjects may be one person. A name and a mail address whose local part it is are taken for one: the
    same person answers by command as ``user:alice`` and by commit as ``user:alice@example.org``."""
    if one == other:
        return True
    if "@" in one and "@" in other:
        return False
    return one.partition("@")[0] == other.partition("@")[0]


def may_answer(subject: str, roles: frozenset[Role] | None, rules: Rules) -> bool:
    """Whether every section of the rules accepts somebody: by name, or by a role. An Admin may what any role may."""
    return all(
        subject in section.subjects
        or (bool(section.roles) and (roles is None or Role.ADMIN in roles or not roles.isdisjoint(section.roles)))
        for section in rules.approvers
    )


def rule(answer: Answer, question: Question | None, now: datetime) -> Ruling:
    """Judge one answer. Pure; an answer that was judged before is not given here again."""
    reasons, spec = ApprovalDecisionReason, answer.spec
    if question is None:
        return Ruling(False, reasons.REQUEST_NOT_FOUND, f"there is no request {spec.request_ref.name}")
    asked = question.spec
    if spec.request_ref.uid != question.uid or spec.action_digest != asked.action_digest:
        return Ruling(False, reasons.STALE_DECISION, "it answers another action: read the request again")
    if not answer.subject or answer.transport not in PROVING:
        return Ruling(False, reasons.IDENTITY_UNPROVEN, f"{answer.transport or 'the transport'} proves nobody")
    if not may_answer(answer.subject, answer.roles, question.rules):
        return Ruling(False, reasons.NOT_AN_APPROVER, f"{answer.subject} is not among those who may answer")
    if spec.verdict is DecisionVerdict.REVOKE:
        return _revoke(question)
    approves = spec.verdict is DecisionVerdict.APPROVE
    if approves and any(same_person(answer.subject, other) for other in question.rules.apart):
        return Ruling(False, reasons.SELF_APPROVAL, "who asks for it, or wrote what is asked about, cannot approve it")
    if question.state is not RequestState.PENDING:
        return _late(answer, question)
    if now >= asked.expires_at or (spec.until is not None and now >= spec.until):
        return Ruling(False, reasons.EXPIRED, "it was answered too late")
    if approves and asked.type is RequestType.CHANGE:
        branch = str(asked.action.get("branch", "its branch"))
        return Ruling(False, reasons.MERGE_DECIDES, f"a proposed change is approved by merging {branch}")
    if spec.scope is not DecisionScope.ONCE and asked.type is not RequestType.ACTION:
        return Ruling(False, reasons.STALE_DECISION, f"a {asked.type} is answered once: use scope Once")
    if spec.verdict is DecisionVerdict.CHANGES_REQUESTED and asked.type is not RequestType.REVIEW:
        return Ruling(False, reasons.STALE_DECISION, "ChangesRequested answers a Review only: approve or deny")
    if spec.grant is not None:
        problem = _ungrantable(spec.grant, asked, now)
        if problem is not None:
            return problem
    if approves:
        if any(same_person(answer.subject, given.subject) for given in question.approvals):
            return Ruling(False, reasons.ALREADY_DECIDED, f"{answer.subject} approved it before")
        given = (*question.approvals, Approval(answer.subject, spec.scope, spec.until, answer.roles))
        missing = lacking(given, question.rules)
        if missing:
            return Ruling(True, reasons.AWAITING_QUORUM, f"{missing} more approval(s) needed")
    return Ruling(True, reasons.COUNTED, "", _OUTCOME[spec.verdict])


def _ungrantable(grant: BudgetGrant, asked: ApprovalRequestSpec, now: datetime) -> Ruling | None:
    """Why an amount cannot be granted so; None when it can."""
    reasons = ApprovalDecisionReason
    if asked.type is not RequestType.BUDGET:
        return Ruling(False, reasons.STALE_DECISION, f"a {asked.type} asks for no amount: leave grant out")
    if grant.until is not None and now >= grant.until:
        return Ruling(False, reasons.EXPIRED, "the end of the grant is over already")
    larger = extension.beyond(grant, extension.asked(asked.action))
    if larger:
        text = f"{', '.join(larger)}: more than was asked; grant.beyondRequest: true says that this is meant"
        return Ruling(False, reasons.GRANT_TOO_LARGE, text)
    return None


def lacking(approvals: Iterable[Approval], rules: Rules) -> int:
    """How many more people have to approve. Somebody who may not any more is not counted."""
    people: list[str] = []
    for given in approvals:
        known = any(same_person(given.subject, other) for other in (*people, *rules.apart))
        if not known and may_answer(given.subject, given.roles, rules):
            people.append(given.subject)
    return max(0, rules.quorum - len(people))


def reach(approvals: Iterable[Approval]) -> tuple[DecisionScope, datetime | None]:
    """How far a leave reaches that several people gave: as far as the narrowest of them."""
    given = list(approvals)
    scope = min((a.scope for a in given), key=_NARROW.index, default=DecisionScope.ONCE)
    ends = [a.until for a in given if a.until is not None]
    return scope, min(ends) if ends else None


def _late(answer: Answer, question: Question) -> Ruling:
    """An answer to what was answered. Only a Deny still counts, while the leave was not used."""
    reasons = ApprovalDecisionReason
    if question.state is RequestState.EXPIRED:
        return Ruling(False, reasons.EXPIRED, "it was answered too late")
    if answer.spec.verdict is DecisionVerdict.DENY and question.state is RequestState.APPROVED:
        if question.uses and not question.standing:
            return Ruling(False, reasons.ALREADY_DECIDED, "another answer came first, and its leave was used")
        return Ruling(True, reasons.COUNTED, "", RequestState.DENIED)
    return Ruling(False, reasons.ALREADY_DECIDED, f"another answer came first: {question.state}")


def _revoke(question: Question) -> Ruling:
    reasons = ApprovalDecisionReason
    if question.state is RequestState.APPROVED and question.uses and not question.standing:
        return Ruling(False, reasons.ALREADY_CONSUMED, "the leave was used")
    if question.state is RequestState.EXPIRED:
        return Ruling(False, reasons.EXPIRED, "there is nothing to revoke: the leave has ended")
    if question.state is not RequestState.APPROVED or question.spec.type is not RequestType.ACTION:
        return Ruling(False, reasons.ALREADY_DECIDED, f"there is nothing to revoke: {question.state}")
    return Ruling(True, reasons.COUNTED, "", RequestState.DENIED)


# Using a leave.


@dataclass(frozen=True, slots=True)
class Leave:
    """A request with what was decided on it. ``until`` is the end of scope Until; ``session`` names the conversation
    that asked: the agent program's session, else the run. ``used_for`` is the key of the latest use."""

    digest: str
    mission: str
    state: RequestState
    approvals: tuple[Approval, ...]
    rules: Rules
    scope: DecisionScope
    until: datetime | None
    expires_at: datetime
    uses: int
    used_for: str
    sessions: frozenset[str]


@dataclass(frozen=True, slots=True)
class Use:
    """One action about to be done. ``key`` names this one act: the same act asked for again has the same key."""

    digest: str
    mission: str
    key: str
    sessions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Allowance:
    """Whether a leave covers an act. ``repeated``: this act was let through before, so nothing more is used up."""

    granted: bool
    reason: LeaveReason
    message: str = ""
    repeated: bool = False


def ends_at(scope: DecisionScope, until: datetime | None, expires_at: datetime) -> datetime:
    """When a leave ends. One for a time ends then; every other with the life of its request."""
    return until if scope is DecisionScope.UNTIL and until is not None else expires_at


def allows(leave: Leave, use: Use, now: datetime) -> Allowance:
    """Whether a leave covers one act now. One approval, one act, unless a person gave leave for more."""
    reasons = LeaveReason
    if leave.digest != use.digest or leave.mission != use.mission:
        return Allowance(False, reasons.STALE_DECISION, "it was given for another action")
    if leave.state is not RequestState.APPROVED:
        return Allowance(False, _WHY.get(leave.state, reasons.DENIED), f"the request is {leave.state}")
    if use.key and use.key == leave.used_for:
        return Allowance(True, reasons.CONSUMED, "this act was let through already", repeated=True)
    if now >= ends_at(leave.scope, leave.until, leave.expires_at):
        return Allowance(False, reasons.EXPIRED, "the leave has ended")
    if leave.scope is DecisionScope.ONCE and leave.uses:
        return Allowance(False, reasons.CONSUMED, "the leave was used")
    if leave.scope is DecisionScope.SESSION and leave.sessions.isdisjoint(use.sessions):
        return Allowance(False, reasons.OTHER_SESSION, "the leave was for another session")
    missing = lacking(leave.approvals, leave.rules)
    if missing:
        return Allowance(False, reasons.AWAITING_QUORUM, f"as policies say now, {missing} more approval(s) are needed")
    return Allowance(True, reasons.GRANTED)


_WHY = {
    RequestState.PENDING: LeaveReason.PENDING,
    RequestState.DENIED: LeaveReason.DENIED,
    RequestState.CHANGES_REQUESTED: LeaveReason.DENIED,
    RequestState.EXPIRED: LeaveReason.EXPIRED,
    RequestState.WITHDRAWN: LeaveReason.WITHDRAWN,
}
