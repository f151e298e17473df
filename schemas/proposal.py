"""What an agent may propose to change in the specs: the allowlist that people declare on it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.base import Bool, Int, Model, require_unique
from schemas.mission import MissionType

FIELD_PATTERN = r"^spec(\.[A-Za-z][A-Za-z0-9]{0,63}){1,8}$"
SpecField = Annotated[str, StringConstraints(pattern=FIELD_PATTERN, max_length=400)]
"""A field below spec, as ``remit explain`` names it: spec.limits.usd. It stands for everything below it too."""
NameGlob = Annotated[str, StringConstraints(pattern=r"^[a-z0-9*]([-a-z0-9.*]{0,200}[a-z0-9*])?$", max_length=202)]
"""A name, or one with ``*`` for any characters."""
OWN_FIELD = "spec.proposals"


class ProposedKind(StrEnum):
    """Kinds that may be proposed. What holds agents back, and where specs come from, is left to people."""

    AGENT = "Agent"
    BUDGET = "Budget"
    GOAL = "Goal"
    MISSION = "Mission"
    SCHEDULE = "Schedule"
    TODO = "Todo"


class ProposalRule(Model):
    """Fields of some objects of one kind, in the namespace of the agent."""

    kind: ProposedKind = Field(description="Agent, Budget, Goal, Mission, Schedule or Todo.")
    names: tuple[NameGlob, ...] = Field(
        min_length=1, max_length=100, description="Names of the objects; * stands for any characters."
    )
    fields: tuple[SpecField, ...] = Field(
        min_length=1,
        max_length=100,
        description="Fields that may change, such as spec.limits.usd, with all below them.",
    )
    create: Bool = Field(False, description="Whether an object of such a name that is not declared may be proposed.")

    @model_validator(mode="after")
    def _apart(self) -> Self:
        require_unique(self.names, "names")
        require_unique(self.fields, "fields")
        if self.kind is ProposedKind.AGENT and any(
            f == OWN_FIELD or f.startswith(OWN_FIELD + ".") for f in self.fields
        ):
            raise ValueError("spec.proposals is no field to propose: an agent would widen what it may ask for")
        return self


class MissionProposals(Model):
    """Missions that an agent may propose. One waits in the Inbox until a person takes it."""

    types: tuple[MissionType, ...] = Field((), max_length=100, description="Types of mission; all when empty.")
    agents: tuple[NameGlob, ...] = Field(
        (),
        max_length=100,
        description="Agents of its namespace, beside itself, that it may name for them.",
    )
    max_open: Int = Field(5, ge=0, le=1000, description="At most so many that wait for an answer.")
    max_per_day: Int = Field(20, ge=0, le=10_000, description="At most so many within 24 hours.")


class Proposals(Model):
    """What an agent may propose. A change is a branch and a question; merging it is a person's act."""

    allow: tuple[ProposalRule, ...] = Field((), max_length=100, description="Fields that it may propose to change.")
    max_open: Int = Field(3, ge=0, le=100, description="At most so many that wait for an answer.")
    max_per_day: Int = Field(10, ge=0, le=1000, description="At most so many within 24 hours.")
    missions: MissionProposals | None = Field(None, description="Missions that it may propose; none when absent.")
