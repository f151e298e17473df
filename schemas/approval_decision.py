"""ApprovalDecision: a person's answer to one ApprovalRequest. Create-only; the identity comes from the transport."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from schemas.base import Bool, Int, Model, Name, StatusModel
from schemas.conditions import Conditions
from schemas.kind import Column, Disruption, KindInfo, ObjectClass
from schemas.quantities import Duration, Money, Time


class DecisionVerdict(StrEnum):
    """The answer."""

    APPROVE = "Approve"
    DENY = "Deny"
    CHANGES_REQUESTED = "ChangesRequested"
    REVOKE = "Revoke"  # takes back a leave that was not used yet


class DecisionScope(StrEnum):
    """How far a leave reaches."""

    ONCE = "Once"
    SESSION = "Session"
    UNTIL = "Until"


class Transport(StrEnum):
    """How an identity was proven. What is none of these proves nobody."""

    STORE = "Store"  # the local user who wrote into the store
    GIT = "Git"  # the verified signature of the commit that brought the file
    TOKEN = "Token"  # the subject of a verified token # noqa: S105
    KUBERNETES = "Kubernetes"  # the user that the cluster authenticated
    CHAT = "Chat"  # a linked chat account, with the id of the message


PROVING = frozenset(t.value for t in Transport)


class RequestRef(Model):
    """The request that is answered; both parts must fit."""

    name: Name = Field(description="Name of the ApprovalRequest.")
    uid: str = Field(min_length=1, max_length=64, description="Its uid: a decision never fits a later request.")


class BudgetGrant(Model):
    """How much more than its limit a budget may hold, and until when, in answer to a request of type Budget. What is
    left out is granted as it was asked."""

    usd: Money | None = Field(None, description="USD.")
    tokens: Int | None = Field(None, ge=0, le=10**15, description="Tokens.")
    tool_calls: Int | None = Field(None, ge=0, le=10**15, description="Tool calls.")
    wall_time: Duration | None = Field(None, description="Time of runs.")
    until: Time | None = Field(
        None, description="When the declared limit counts again; without one, at the end of its window."
    )
    beyond_request: Bool = Field(
        False, description="Whether more than was asked for is meant; without it, more is refused."
    )


class ApprovalDecisionSpec(Model):
    """An answer that fits one exact action."""

    request_ref: RequestRef = Field(description="The request.")
    action_digest: str = Field(
        pattern=r"^sha256:[0-9a-f]{64}$", description="Digest of what was read; another action needs another answer."
    )
    verdict: DecisionVerdict = Field(description="Approve, Deny, ChangesRequested or Revoke.")
    scope: DecisionScope = Field(DecisionScope.ONCE, description="Once, Session or Until.")
    until: Time | None = Field(None, description="End of the leave, with scope Until.")
    grant: BudgetGrant | None = Field(
        None, description="How much more, and until when, on a request of type Budget; without it, what was asked."
    )
    reason: str = Field("", max_length=10_000, description="Note for the record; the remarks of ChangesRequested.")

    @model_validator(mode="after")
    def _scope(self) -> Self:
        if (self.scope is DecisionScope.UNTIL) != (self.until is not None):
            raise ValueError("until goes with scope Until")
        if self.grant is not None and self.verdict is not DecisionVerdict.APPROVE:
            raise ValueError("grant goes with verdict Approve")
        if self.verdict is DecisionVerdict.CHANGES_REQUESTED and not self.reason.strip():
            raise ValueError("ChangesRequested needs a reason: say what to change")
        return self


class ApprovalDecisionReason(StrEnum):
    """Reasons of its Succeeded condition."""

    COUNTED = "Counted"  # it took effect
    AWAITING_QUORUM = "AwaitingQuorum"  # it counts, others must follow
    REQUEST_NOT_FOUND = "RequestNotFound"  # no such request
    STALE_DECISION = "StaleDecision"  # uid or digest belong to another action
    ALREADY_DECIDED = "AlreadyDecided"  # another answer came first
    EXPIRED = "Expired"  # too late
    SELF_APPROVAL = "SelfApproval"  # requester or author cannot approve
    NOT_AN_APPROVER = "NotAnApprover"  # the subject lacks the role
    IDENTITY_UNPROVEN = "IdentityUnproven"  # the transport proves nobody
    MERGE_DECIDES = "MergeDecides"  # a proposed change is approved by merging its branch, in no other way
    GRANT_TOO_LARGE = "GrantTooLarge"  # more than was asked, and beyondRequest does not say that this is meant
    ALREADY_CONSUMED = "AlreadyConsumed"  # too late to revoke: the leave was used


class ApprovalDecisionStatus(StatusModel):
    """Whether it counted."""

    conditions: Conditions = Field((), description="Succeeded: True when it counted, False with the reason when not.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    subject: str = Field("", description="Who decided, as proven.")
    transport: str = Field("", description="How the identity was proven: Store, Git, Token, Kubernetes, Chat.")
    groups: tuple[str, ...] = Field((), description="Groups that the transport says they belong to.")
    proof: str = Field("", description="What proved it: a user id, a commit, a message.")
    unproven: str = Field("", description="Why the transport proves nobody, where it does not.")


KIND = KindInfo(
    kind="ApprovalDecision",
    plural="approvaldecisions",
    short_names=("decision",),
    object_class=ObjectClass.ACT,
    spec=ApprovalDecisionSpec,
    status=ApprovalDecisionStatus,
    reasons=ApprovalDecisionReason,
    description="A person's answer to one ApprovalRequest.",
    bounded=True,
    condition_types=("Succeeded",),
    columns=(
        Column("VERDICT", "spec.verdict"),
        Column("REQUEST", "spec.requestRef.name"),
        Column("COUNTED", "status.conditions[Succeeded].status"),
        Column("REASON", "status.conditions[Succeeded].reason"),
        Column("BY", "status.subject"),
        Column("VIA", "status.transport", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
    immutable=("requestRef", "actionDigest", "verdict", "scope", "until", "grant", "reason"),
    disruption={"": Disruption.LIVE},
)
