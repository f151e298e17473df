"""Provider: a shared pool of a model, key or API, with its slots, its rate and its prices."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.base import Bool, Int, Model, StatusModel, require_unique
from schemas.conditions import Conditions
from schemas.kind import Column, Disruption, KindInfo, ObjectClass
from schemas.mission import Backoff
from schemas.quantities import Money, Time, format_time

DEFAULT_MAX_CONCURRENCY = 3
"""Slots of a pool that declares none, and of agents whose model names no provider (requirement A7)."""


class RateLimit(Model):
    """What may be asked of it in a minute. Absent: whatever it bears."""

    requests_per_minute: Int | None = Field(None, ge=0, le=10**9, description="Requests in a minute; 0 is none.")
    tokens_per_minute: Int | None = Field(None, ge=0, le=10**12, description="Tokens in a minute; 0 is none.")


class Price(Model):
    """What a model costs, in USD for a million tokens."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f\x7f]+$")] = Field(
        description="Model name; a final * stands for any ending, and the longest name that fits counts."
    )
    input_per_million: Money = Field(description="Input tokens.")
    output_per_million: Money = Field(description="Output tokens.")
    cache_read_per_million: Money | None = Field(None, description="Input read from a cache; as input when absent.")
    cache_write_per_million: Money | None = Field(None, description="Input written to it; as input when absent.")
    effective_from: Time | None = Field(None, description="It holds for usage from then on; absent: always.")


class ProviderSpec(Model):
    """A shared pool of a model, key or API."""

    description: str | None = Field(None, max_length=10_000, description="What it is.")
    max_concurrency: Int = Field(
        DEFAULT_MAX_CONCURRENCY, ge=0, le=10_000, description="Runs that use it at a time; 0 is none."
    )
    rate_limit: RateLimit = Field(default_factory=RateLimit, description="What may be asked of it in a minute.")
    backoff: Backoff = Field(
        default_factory=Backoff, description="Pauses of all its users together after it said that it is overloaded."
    )
    prices: tuple[Price, ...] = Field(
        (), max_length=1000, description="Prices for usage that comes without a cost; unpriced usage counts as unknown."
    )
    suspend: Bool = Field(False, description="Start no run that uses it while true.")

    @model_validator(mode="after")
    def _one_price(self) -> Self:
        require_unique((_price_name(p) for p in self.prices), "the models of prices, with their effectiveFrom,")
        return self


def _price_name(price: Price) -> str:
    return price.model if price.effective_from is None else f"{price.model} from {format_time(price.effective_from)}"


class ProviderReason(StrEnum):
    """Reasons of a Provider's conditions."""

    RECONCILED = "Reconciled"  # it can be used
    NOT_RECONCILED_YET = "NotReconciledYet"  # accepted; not looked at yet
    SUSPENDED = "Suspended"  # spec.suspend
    BACKING_OFF = "BackingOff"  # it said that it is overloaded; see status.backoffUntil
    RATE_LIMITED = "RateLimited"  # this minute's requests or tokens are used up
    IN_USE = "InUse"  # deletion waits: agents refer to it
    DELETING = "Deleting"  # deletionTimestamp is set


class MinuteUse(StatusModel):
    """What was asked of it in the minute that counts."""

    began: Time = Field(description="When the minute began.")
    requests: int = Field(0, description="Requests that its users reported.")
    tokens: int = Field(0, description="Tokens that they reported.")


class ProviderStatus(StatusModel):
    """How it fares."""

    conditions: Conditions = Field((), description="Ready.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    in_use: int = Field(0, description="Slots that are taken.")
    waiting: int = Field(0, description="Missions that wait for a slot.")
    backoff_until: Time | None = Field(None, description="Nothing new starts before.")
    backoff_ended: Time | None = Field(None, description="When its last pause ended.")
    last_error: str = Field("", description="What it last said when it refused.")
    last_error_at: Time | None = Field(None, description="When that was.")
    streak: int = Field(0, description="Pauses in a row; the next one is longer.")
    minute: MinuteUse | None = Field(None, description="What was used in the current minute, where rateLimit is set.")
    last_handled_reconcile: str | None = Field(None, description="Latest reconcile token acted on.")


KIND = KindInfo(
    kind="Provider",
    plural="providers",
    short_names=("pv",),
    object_class=ObjectClass.INTENT,
    spec=ProviderSpec,
    status=ProviderStatus,
    reasons=ProviderReason,
    description="A shared pool of a model, key or API.",
    columns=(
        Column("READY", "status.conditions[Ready].status"),
        Column("IN USE", "status.inUse", "integer"),
        Column("SLOTS", "spec.maxConcurrency", "integer"),
        Column("WAITING", "status.waiting", "integer"),
        Column("REASON", "status.conditions[Ready].reason"),
        Column("BACKOFF", "status.backoffUntil", "date", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
    disruption={"": Disruption.LIVE},
)
