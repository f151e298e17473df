"""Project: what missions belong to, with a stage that moves one step forward at a time."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.base import Line, Model, ObjectRef, StatusModel, require_unique
from schemas.conditions import Conditions
from schemas.kind import Column, Disruption, KindInfo, ObjectClass
from schemas.mission import Spend
from schemas.tenant import Member


class Stage(StrEnum):
    """Where a project stands."""

    DEFINITION = "Definition"  # what is wanted is being written down
    DESIGN = "Design"  # how it will be built is being decided
    DEVELOPMENT = "Development"  # it is being built
    TESTING = "Testing"  # it is being tried
    RELEASE = "Release"  # it is being handed over
    MAINTENANCE = "Maintenance"  # it is in use and looked after
    END_OF_LIFE = "EndOfLife"  # it is being wound up


STAGE_ORDER = tuple(Stage)
"""The stages from first to last. A project moves one step forward at a time, and back freely."""


def is_legal_stage_move(old: Stage, new: Stage) -> bool:
    """Whether a project may go from ``old`` to ``new``: the next stage, the same, or any earlier one."""
    return STAGE_ORDER.index(new) <= STAGE_ORDER.index(old) + 1


HttpsUrl = Annotated[str, StringConstraints(pattern=r'^https://[^\s\x00-\x1f\x7f<>"\\]+$', max_length=2048)]


class Link(Model):
    """Something to read elsewhere."""

    title: Line = Field(description="What it is.")
    url: HttpsUrl = Field(description="Where it is; https only, as pages show it to be clicked.")


class ProjectSpec(Model):
    """What missions belong to."""

    display_name: Line | None = Field(None, description="Name for people.")
    description: str | None = Field(None, max_length=100_000, description="What it is about.")
    owner: Line | None = Field(None, description="Person or team that answers for it.")
    stage: Stage = Field(
        Stage.DEFINITION,
        description="Definition, Design, Development, Testing, Release, Maintenance or EndOfLife; one step forward at "
        "a time, back freely.",
    )
    channel_ref: ObjectRef | None = Field(None, description="Channel that its news goes to.")
    links: tuple[Link, ...] = Field((), max_length=100, description="Repository, documents, board.")
    members: tuple[Member, ...] = Field((), max_length=1000, description="Who belongs to it, beside the tenant's own.")

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        require_unique((m.subject for m in self.members), "the subjects of members")
        return self


class ProjectReason(StrEnum):
    """Reasons of a Project's conditions."""

    RECONCILED = "Reconciled"  # what it declares is in force
    NOT_RECONCILED_YET = "NotReconciledYet"  # accepted; no controller of this version acts on it
    STAGE_SKIPPED = "StageSkipped"  # the declared stage is more than one step ahead of status.stage
    REFERENCE_NOT_FOUND = "ReferenceNotFound"  # channelRef names nothing
    HELD = "Held"  # a Hold stops its missions
    IN_USE = "InUse"  # deletion waits: missions refer to it
    DELETING = "Deleting"  # deletionTimestamp is set


class ProjectStatus(StatusModel):
    """How far it is."""

    conditions: Conditions = Field((), description="Ready.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    stage: Stage | None = Field(None, description="The stage in force.")
    open_missions: int = Field(0, description="Missions that have not ended.")
    done_missions: int = Field(0, description="Missions that are Done.")
    spend: Spend = Field(default_factory=Spend, description="Used by all its missions.")
    last_handled_reconcile: str | None = Field(None, description="Latest reconcile token acted on.")


KIND = KindInfo(
    kind="Project",
    plural="projects",
    short_names=("prj",),
    object_class=ObjectClass.INTENT,
    spec=ProjectSpec,
    status=ProjectStatus,
    reasons=ProjectReason,
    description="What missions belong to.",
    columns=(
        Column("STAGE", "spec.stage"),
        Column("READY", "status.conditions[Ready].status"),
        Column("OPEN", "status.openMissions", "integer"),
        Column("DONE", "status.doneMissions", "integer"),
        Column("OWNER", "spec.owner"),
        Column("REASON", "status.conditions[Ready].reason", wide=True),
        Column("COST", "status.spend.usd", "money", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
    disruption={"": Disruption.LIVE},
)
