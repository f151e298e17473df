"""Hold: an act that stops work without touching what is declared. Effective is the strictest of all that match."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from schemas.base import Bool, Int, Labels, Model, Name, Namespace, ObjectRef, StatusModel
from schemas.conditions import Conditions
from schemas.kind import Column, Disruption, KindInfo, ObjectClass
from schemas.quantities import Time


class HoldMode(StrEnum):
    """How hard it stops."""

    HOLD = "Hold"  # nothing new starts
    DRAIN = "Drain"  # what runs may end; then nothing new starts
    STOP = "Stop"  # what runs is canceled now


HOLDABLE = ("Agent", "Mission", "Executor", "Schedule", "Goal", "Project")
STRICTNESS = {HoldMode.HOLD: 1, HoldMode.DRAIN: 2, HoldMode.STOP: 3}


class HoldScope(StrEnum):
    """Everything at once."""

    TENANT = "Tenant"  # everything in the Hold's namespace
    GLOBAL = "Global"  # everything


class HoldSelector(Model):
    """Which objects are held: those that meet every given part."""

    kinds: tuple[str, ...] = Field(("Agent", "Mission"), min_length=1, description="Kinds, PascalCase.")
    match_labels: Labels = Field(default_factory=dict, description="Labels that must all be present.")
    names: tuple[Name, ...] = Field((), description="Names; empty for any.")

    @model_validator(mode="after")
    def _known(self) -> Self:
        unknown = sorted(set(self.kinds) - set(HOLDABLE))
        if unknown:
            raise ValueError(f"cannot hold {', '.join(unknown)}: kinds are {', '.join(HOLDABLE)}")
        if not self.names and not self.match_labels:
            raise ValueError("name something: matchLabels or names (scope: Tenant holds everything)")
        return self


class Released(Model):
    """The part of a Hold that may work again: a mission does when any of this speaks of it or of its agent."""

    tenants: tuple[Namespace, ...] = Field((), description="Namespaces.")
    agents: tuple[ObjectRef, ...] = Field((), description="Agents; in the Hold's namespace unless they say another.")
    percent: Int = Field(0, ge=0, le=100, description="So many agents of a hundred, always the same ones first.")


class HoldSpec(Model):
    """A stop with a reason and, better, an end."""

    selector: HoldSelector | None = Field(None, description="Which objects; this or scope.")
    scope: HoldScope | None = Field(None, description="Tenant or Global; this or selector.")
    mode: HoldMode = Field(HoldMode.HOLD, description="Hold, Drain or Stop.")
    reason: str = Field(min_length=1, max_length=2000, description="Why; shown wherever it bites.")
    until: Time | None = Field(None, description="When it ends by itself.")
    quarantine: Bool = Field(
        False, description="Also revoke the keys of the agents' runs and block their missions; for agents by name."
    )
    released: Released | None = Field(None, description="What may work again already; for a scope.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.selector is None) == (self.scope is None):
            raise ValueError("give exactly one of selector and scope")
        if self.released is not None and self.scope is None:
            raise ValueError("released is for a Hold with a scope; narrow the selector instead")
        if self.quarantine and not (
            self.mode is HoldMode.STOP
            and self.selector is not None
            and self.selector.kinds == ("Agent",)
            and self.selector.names
        ):
            raise ValueError("a quarantine stops agents by name: mode: Stop, selector: {kinds: [Agent], names: [...]}")
        return self

    @property
    def is_estop(self) -> bool:
        """Whether it stops all there is, or all of a tenant, now."""
        return self.scope is not None and self.mode is HoldMode.STOP


class HoldReason(StrEnum):
    """Reasons of a Hold's conditions."""

    IN_FORCE = "InForce"  # it holds
    PARTLY_RELEASED = "PartlyReleased"  # it holds all but what spec.released names
    EXPIRED = "Expired"  # its time is over
    DELETING = "Deleting"  # it is being released


class ReleaseVoice(StatusModel):
    """One person who asked for the end of an e-stop, or of a part of it."""

    subject: str = Field(description="Who.")
    transport: str = Field("", description="How the identity was proven.")
    at: Time = Field(description="When.")
    reason: str = Field(description="Why.")
    part: str = Field("", description="Digest of the part that was asked for; empty for all of it.")


class HoldStatus(StatusModel):
    """What it holds."""

    conditions: Conditions = Field((), description="Ready: True while in force.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    placed_by: str = Field("", description="Who placed it.")
    transport: str = Field("", description="How the identity was proven.")
    matched: int = Field(0, description="Objects it holds.")
    file: str = Field("", description="The ESTOP file that it was made from, as host:path.")
    voices: tuple[ReleaseVoice, ...] = Field((), description="Who asked for its release, where a quorum is needed.")


KIND = KindInfo(
    kind="Hold",
    plural="holds",
    short_names=(),
    object_class=ObjectClass.ACT,
    spec=HoldSpec,
    status=HoldStatus,
    reasons=HoldReason,
    description="Stops work without touching what is declared.",
    guardrail=True,
    columns=(
        Column("MODE", "spec.mode"),
        Column("SCOPE", "spec.scope"),
        Column("IN FORCE", "status.conditions[Ready].status"),
        Column("MATCHED", "status.matched", "integer"),
        Column("BY", "status.placedBy"),
        Column("UNTIL", "spec.until", "date"),
        Column("REASON", "spec.reason"),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
    disruption={"": Disruption.LIVE},
)
