"""Confirmation: a person releases exactly one plan that a guard holds back."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.base import Model, StatusModel
from schemas.conditions import Conditions
from schemas.kind import Column, Disruption, KindInfo, ObjectClass
from schemas.quantities import Time


class ConfirmationSpec(Model):
    """Names the plan by its digest."""

    plan_digest: str = Field(
        pattern=r"^sha256:[0-9a-f]{64}$", description="Digest that `remit diff` and the guard print."
    )
    revision: str | None = Field(None, max_length=300, description="Revision the plan was made for, for the record.")
    reason: str = Field("", max_length=2000, description="Why it is meant.")


class ConfirmationReason(StrEnum):
    """Reasons of its Succeeded condition."""

    PENDING = "Pending"  # no plan with that digest was met yet
    USED = "Used"  # the plan was applied
    DIGEST_UNKNOWN = "DigestUnknown"  # the plan that waits has another digest
    IDENTITY_UNPROVEN = "IdentityUnproven"  # nobody is proven to have confirmed


class ConfirmationStatus(StatusModel):
    """Whether it was used."""

    conditions: Conditions = Field((), description="Succeeded: True once its plan was applied.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    confirmed_by: str = Field("", description="Who confirmed.")
    transport: str = Field("", description="How the identity was proven.")
    used_at: Time | None = Field(None, description="When the plan was applied.")


KIND = KindInfo(
    kind="Confirmation",
    plural="confirmations",
    short_names=(),
    object_class=ObjectClass.ACT,
    spec=ConfirmationSpec,
    status=ConfirmationStatus,
    reasons=ConfirmationReason,
    description="Releases exactly one plan that a guard holds back.",
    bounded=True,
    condition_types=("Succeeded",),
    columns=(
        Column("USED", "status.conditions[Succeeded].status"),
        Column("REASON", "status.conditions[Succeeded].reason"),
        Column("BY", "status.confirmedBy"),
        Column("DIGEST", "spec.planDigest"),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
    immutable=("planDigest", "revision"),
    disruption={"": Disruption.LIVE},
)
