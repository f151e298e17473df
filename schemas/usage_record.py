"""UsageRecord: what something cost, and how that is known. A record, final when it is made."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.base import Bool, Int, Model, ObjectRef, StatusModel
from schemas.conditions import Conditions, NoReason
from schemas.kind import Column, KindInfo, ObjectClass
from schemas.quantities import Duration, Money, Time


class UsageSource(StrEnum):
    """How the cost is known; from best to weakest."""

    REPORTED = "Reported"  # the agent or its provider named it
    PRICED = "Priced"  # tokens times Provider.spec.prices
    ESTIMATED = "Estimated"  # guessed from something else, such as time
    UNKNOWN = "Unknown"  # nothing is known: the reservation counts


SOURCE_ORDER = tuple(UsageSource)
"""From best to weakest. A sum is as good as its weakest part."""


class UsageRecordSpec(Model):
    """What was used."""

    source: UsageSource = Field(description="How the cost is known.")
    run_ref: ObjectRef | None = Field(None, description="The run that used it.")
    mission_ref: ObjectRef | None = Field(None, description="Its mission.")
    agent_ref: ObjectRef | None = Field(None, description="Its agent.")
    project_ref: ObjectRef | None = Field(None, description="The mission's project.")
    goal_ref: ObjectRef | None = Field(None, description="The mission's goal.")
    provider_ref: ObjectRef | None = Field(None, description="The provider that was used.")
    model: str = Field("", description="Model, as the provider names it.")
    usd: Money | None = Field(
        None,
        description="USD that the ledger counts for it; of source Unknown, what was reserved and not accounted for.",
    )
    input_tokens: Int = Field(0, ge=0, description="Input tokens, cached ones included.")
    output_tokens: Int = Field(0, ge=0, description="Output tokens.")
    cache_read_tokens: Int = Field(0, ge=0, description="Input tokens that were read from a cache.")
    cache_write_tokens: Int = Field(0, ge=0, description="Input tokens that were written to one.")
    unknown_tokens: Int = Field(0, ge=0, description="Tokens that count because they were reserved.")
    tool_calls: Int = Field(0, ge=0, description="Tool calls.")
    wall_time: Duration | None = Field(None, description="Time it took.")
    price: str = Field("", description="Price it was counted at: provider@generation, its name there, since when.")
    unpriced: Bool = Field(False, description="Its tokens are known, but no price of its model.")
    at: Time = Field(description="When it was booked.")
    idempotency_key: str = Field(description="The same report again has the same key and counts once.")


class UsageRecordStatus(StatusModel):
    """Nothing: it is final when it is made."""

    conditions: Conditions = Field((), description="None.")


KIND = KindInfo(
    kind="UsageRecord",
    plural="usagerecords",
    short_names=("usage",),
    object_class=ObjectClass.RECORD,
    spec=UsageRecordSpec,
    status=UsageRecordStatus,
    reasons=NoReason,
    description="What something cost, and how that is known.",
    condition_types=(),
    columns=(
        Column("SOURCE", "spec.source"),
        Column("AGENT", "spec.agentRef.name"),
        Column("MISSION", "spec.missionRef.name"),
        Column("MODEL", "spec.model"),
        Column("COST", "spec.usd", "money"),
        Column("IN", "spec.inputTokens", "integer"),
        Column("OUT", "spec.outputTokens", "integer"),
        Column("RUN", "spec.runRef.name", wide=True),
        Column("PRICE", "spec.price", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
)
