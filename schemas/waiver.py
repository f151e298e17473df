"""Waiver: a time-limited exception to what Policies and the built-in table would ask for."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from schemas.base import LabelSelector, Line, Model, ObjectRef, StatusModel
from schemas.conditions import Conditions
from schemas.kind import Column, Disruption, KindInfo, ObjectClass
from schemas.policy import Match, Verdict
from schemas.quantities import Time


def _loosens(value: Verdict) -> Verdict:
    if value is Verdict.DENY:
        raise ValueError("a Waiver loosens: write Allow or RequireApproval, and forbid by a rule of a Policy")
    return value


class WaiverSpec(Model):
    """A time-limited exception. It never opens a hard stop, an explicit rule, a Hold or a budget."""

    policy_ref: ObjectRef | None = Field(
        None, description="Policy it is an exception to; absent: the built-in table, whatever the Policy."
    )
    selector: LabelSelector = Field(
        default_factory=LabelSelector, description="Agents it holds for; empty for all that the policy holds for."
    )
    match: Match = Field(description="Which tool calls.")
    verdict: Annotated[Verdict, AfterValidator(_loosens)] = Field(
        Verdict.ALLOW, description="Allow, or RequireApproval in place of Deny."
    )
    owner: Line = Field(description="Person or team that answers for it.")
    reason: Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)] = Field(
        description="Why it is needed; shown with every decision it makes."
    )
    expires: Time = Field(description="It has no effect after this.")

    @model_validator(mode="after")
    def _narrow(self) -> Self:
        if "*" in self.match.tools and self.match.when is None and not self.selector.match_labels:
            raise ValueError("an exception for every tool of every agent is none: narrow match or selector")
        return self


class WaiverReason(StrEnum):
    """Reasons of a Waiver's conditions."""

    IN_FORCE = "InForce"  # it loosens
    EXPIRED = "Expired"  # its time is over
    REFERENCE_NOT_FOUND = "ReferenceNotFound"  # policyRef names nothing; it has no effect
    EXPRESSION_INVALID = "ExpressionInvalid"  # its when expression does not compile; it has no effect
    WIDENING_PENDING = "WideningPending"  # it waits for `remit confirm`; it has no effect yet
    DELETING = "Deleting"  # deletionTimestamp is set


class WaiverStatus(StatusModel):
    """Whether it is in force."""

    conditions: Conditions = Field((), description="Ready: True while in force.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    used: int = Field(0, description="Calls that it let through, or sent to a person, ever.")
    counted_to: int = Field(0, description="Number of the latest event that this count includes.")
    warned_of: Time | None = Field(None, description="The end that was announced; a later one is announced again.")
    last_used_at: Time | None = Field(None, description="When it last did.")
    last_handled_reconcile: str | None = Field(None, description="Latest reconcile token acted on.")


KIND = KindInfo(
    kind="Waiver",
    plural="waivers",
    short_names=("wv",),
    object_class=ObjectClass.INTENT,
    spec=WaiverSpec,
    status=WaiverStatus,
    reasons=WaiverReason,
    description="A time-limited exception.",
    columns=(
        Column("IN FORCE", "status.conditions[Ready].status"),
        Column("VERDICT", "spec.verdict"),
        Column("POLICY", "spec.policyRef.name"),
        Column("OWNER", "spec.owner"),
        Column("EXPIRES", "spec.expires", "date"),
        Column("USED", "status.used", "integer"),
        Column("REASON", "spec.reason", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
    disruption={"": Disruption.LIVE},
)
