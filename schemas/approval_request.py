"""ApprovalRequest: the engine asks a person about one exact action. A record."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.approval_decision import BudgetGrant, DecisionScope
from schemas.base import Bool, Int, JsonObject, Model, StatusModel
from schemas.conditions import Conditions
from schemas.kind import Column, KindInfo, ObjectClass
from schemas.quantities import Duration, Money, Time


class RequestType(StrEnum):
    """What is asked."""

    REVIEW = "Review"  # is this deliverable accepted?
    ACTION = "Action"  # may this action be done?
    BUDGET = "Budget"  # may it spend more?
    UNBLOCK = "Unblock"  # how does this mission go on?
    CHANGE = "Change"  # is this change of the specs merged?


class RequestState(StrEnum):
    """Life of a request."""

    PENDING = "Pending"
    APPROVED = "Approved"
    DENIED = "Denied"
    CHANGES_REQUESTED = "ChangesRequested"
    EXPIRED = "Expired"
    WITHDRAWN = "Withdrawn"


class OnTimeout(StrEnum):
    """What happens when nobody answers. It is never granted."""

    PARK = "Park"  # the mission goes to Blocked
    DENY = "Deny"  # as if denied


class ApprovalRequestSpec(Model):
    """One exact action; ``actionDigest`` changes with every part of it."""

    type: RequestType = Field(description="Review, Action, Budget, Unblock or Change.")
    subject: str = Field(description="kind/namespace/name of what it is about.")
    subject_uid: str = Field(description="Its uid.")
    run: str = Field("", description="Run that wants it.")
    requester: str = Field(description="Who wants it: agent:<namespace>/<name>.")
    title: str = Field(description="One line for people.")
    action: JsonObject = Field(description="What exactly would be done or accepted, redacted.")
    action_digest: str = Field(description="sha256:<hex> of the canonical action.")
    risk: str = Field("Green", description="Green, Yellow or Red.")
    rule: str = Field("", description="What made it ask: rule and place.")
    approver_roles: tuple[str, ...] = Field(("Approver",), description="Roles that may answer.")
    approver_subjects: tuple[str, ...] = Field((), description="People who may answer beside them, by name.")
    authors: tuple[str, ...] = Field((), description="Who wrote what is asked about, where that counts.")
    quorum: Int = Field(1, ge=1, description="Answers needed.")
    separation_of_duties: Bool = Field(True, description="Whether requester and author are refused as approvers.")
    expires_at: Time = Field(description="No answer counts after this.")
    remind_at: Time | None = Field(None, description="When people are reminded once.")
    on_timeout: OnTimeout = Field(OnTimeout.PARK, description="What happens without an answer.")


class LeaveReason(StrEnum):
    """Whether a leave covers an act, and why not."""

    GRANTED = "Granted"  # it does
    PENDING = "Pending"  # nobody has answered yet
    AWAITING_QUORUM = "AwaitingQuorum"  # policies ask for more approvals than were given
    DENIED = "Denied"  # it was refused, or taken back
    EXPIRED = "Expired"  # it ended, or nobody answered in time
    WITHDRAWN = "Withdrawn"  # the question no longer stands
    CONSUMED = "Consumed"  # it was used
    STALE_DECISION = "StaleDecision"  # it was given for another action
    OTHER_SESSION = "OtherSession"  # it was given for another session


class ApprovalRequestReason(StrEnum):
    """Reasons of its Succeeded condition."""

    PENDING = "Pending"  # waits for an answer
    APPROVED = "Approved"  # leave was given
    DENIED = "Denied"  # leave was refused
    CHANGES_REQUESTED = "ChangesRequested"  # sent back with remarks
    EXPIRED = "Expired"  # nobody answered in time
    WITHDRAWN = "Withdrawn"  # the question no longer stands
    CONSUMED = "Consumed"  # the leave was used


class GivenApproval(StatusModel):
    """One approval that counted. It stays, whatever becomes of the decision it came with."""

    subject: str = Field(description="Who gave it.")
    groups: tuple[str, ...] = Field((), description="Groups that their transport said they belong to.")
    transport: str = Field(description="How the identity was proven.")
    scope: DecisionScope = Field(DecisionScope.ONCE, description="How far it reaches.")
    until: Time | None = Field(None, description="End, with scope Until.")
    at: Time = Field(description="When it was counted.")
    decision: str = Field(description="Name of the ApprovalDecision.")
    grant: BudgetGrant | None = Field(None, description="Of a Budget: how much more, where they said so.")
    reason: str = Field("", description="Note for the record.")


class ProposalStatus(StatusModel):
    """What became of the branch of a proposed change."""

    commit: str = Field("", description="Commit on the branch; empty until it was made.")
    pull_request: str = Field("", description="Address of the pull request, where one was opened.")
    pull_number: int = Field(0, description="Its number; 0 without one.")
    closed: bool = Field(False, description="Whether branch and pull request were cleared away.")
    message: str = Field("", description="What stands in the way, for people.")


class Extension(StatusModel):
    """What people granted on top of a limit."""

    usd: Money = Field(description="USD.")
    tokens: int = Field(0, description="Tokens.")
    tool_calls: int = Field(0, description="Tool calls.")
    wall_time: Duration = Field(description="Time of runs.")
    until: Time | None = Field(None, description="When the declared limit counts again; absent: with its next window.")
    ended_at: Time | None = Field(None, description="When it was taken back from the budget.")


class ApprovalRequestStatus(StatusModel):
    """How it was answered."""

    state: RequestState = Field(RequestState.PENDING, description="Where it stands.")
    conditions: Conditions = Field((), description="Succeeded.")
    decisions: tuple[str, ...] = Field((), description="Names of the decisions that counted, in order.")
    approvals: tuple[GivenApproval, ...] = Field((), description="Approvals that counted, in order.")
    decided_by: str = Field("", description="Who decided.")
    decided_via: str = Field("", description="How that identity was proven.")
    decided_at: Time | None = Field(None, description="When.")
    reminded_at: Time | None = Field(None, description="When people were reminded.")
    consumed_at: Time | None = Field(None, description="When the leave was used first.")
    consumed_by: str = Field("", description="Key of the act that used it last.")
    uses: int = Field(0, description="How often it was used.")
    scope: DecisionScope | None = Field(None, description="How far the leave reaches: Once, Session or Until.")
    until: Time | None = Field(None, description="End of a leave with scope Until.")
    quorum: str = Field("", description="Approvals that count, of those needed: 1/2.")
    may_answer: str = Field("", description="Who may answer, in words.")
    extension: Extension | None = Field(None, description="Of a Budget: what was granted.")
    proposal: ProposalStatus | None = Field(None, description="Of a Change: its branch.")


KIND = KindInfo(
    kind="ApprovalRequest",
    plural="approvalrequests",
    short_names=("approval", "approvals", "ar"),
    object_class=ObjectClass.RECORD,
    spec=ApprovalRequestSpec,
    status=ApprovalRequestStatus,
    reasons=ApprovalRequestReason,
    description="The engine asks a person about one exact action.",
    bounded=True,
    condition_types=("Succeeded",),
    columns=(
        Column("STATE", "status.state"),
        Column("TYPE", "spec.type"),
        Column("SUBJECT", "spec.subject"),
        Column("RISK", "spec.risk"),
        Column("QUORUM", "status.quorum"),
        Column("EXPIRES", "spec.expiresAt", "date"),
        Column("DECIDED BY", "status.decidedBy"),
        Column("WHO MAY", "status.mayAnswer", wide=True),
        Column("SCOPE", "status.scope", wide=True),
        Column("USES", "status.uses", "integer", wide=True),
        Column("TITLE", "spec.title", wide=True),
        Column("DIGEST", "spec.actionDigest", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
)
