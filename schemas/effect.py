"""Effect: one act on the outside world, delivered at least once. A record of the store's own table."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.base import JsonObject, Model, StatusModel
from schemas.conditions import NoReason
from schemas.kind import Column, KindInfo, ObjectClass
from schemas.quantities import Time


class EffectState(StrEnum):
    """Life of an effect."""

    PENDING = "Pending"  # it is to be done
    CLAIMED = "Claimed"  # somebody does it; falls back to Pending when the claim runs out
    DONE = "Done"  # it was done
    DEAD = "Dead"  # it was given up or withdrawn


class EffectSpec(Model):
    """What is to be done."""

    type: str = Field(description="What kind of act: StartRun, CancelRun, Notify and the like.")
    subject: str = Field(description="kind/namespace/name of the object it is done for.")
    key: str = Field(description="Idempotency key: the same act is put into the outbox once.")
    payload: JsonObject = Field(default_factory=dict, description="What the act needs, redacted.")
    due_at: Time = Field(description="Not before.")


class EffectStatus(StatusModel):
    """How far it is."""

    state: EffectState = Field(EffectState.PENDING, description="Where it stands.")
    tries: int = Field(0, description="How often it was claimed.")
    claimed_by: str = Field("", description="Who does it.")
    claim_until: Time | None = Field(None, description="End of the claim.")
    done_at: Time | None = Field(None, description="When it was done or given up.")
    last_error: str = Field("", description="Why it was not done the last time.")


KIND = KindInfo(
    kind="Effect",
    plural="effects",
    short_names=(),
    object_class=ObjectClass.RECORD,
    spec=EffectSpec,
    status=EffectStatus,
    reasons=NoReason,
    description="One act on the outside world.",
    own_table=True,
    condition_types=(),
    columns=(
        Column("STATE", "status.state"),
        Column("TYPE", "spec.type"),
        Column("SUBJECT", "spec.subject"),
        Column("TRIES", "status.tries", "integer"),
        Column("DUE", "spec.dueAt", "date"),
        Column("ERROR", "status.lastError", wide=True),
        Column("KEY", "spec.key", wide=True),
    ),
)
