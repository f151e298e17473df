"""Goal: an objective that missions work towards, with what measures it and what may be started for it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.base import (
    Bool,
    LabelSelector,
    Line,
    Model,
    Number,
    ObjectRef,
    PartName,
    StatusModel,
    Subject,
    require_unique,
)
from schemas.conditions import Conditions
from schemas.kind import Column, Disruption, KindInfo, ObjectClass
from schemas.mission import MissionState, MissionType, Spend
from schemas.mission_template import NamedMissionTemplate
from schemas.quantities import Date, PositiveDuration, Time


class Metric(Model):
    """The figure that says how far it is."""

    source: Line = Field(
        description="What is measured: missions.done (share of its missions that are Done), or the name of a figure "
        "that missions of the goal report."
    )
    target: Number = Field(description="Value at which the goal is reached.")
    start: Number = Field(0.0, description="Value at which progress is none; above target where less is better.")
    unit: Annotated[str, StringConstraints(max_length=20, pattern=r"^[^\x00-\x1f\x7f]*$")] | None = Field(
        None, description="Unit for people, such as % or users."
    )

    @model_validator(mode="after")
    def _some_way_to_go(self) -> Self:
        if self.start == self.target:
            raise ValueError("start and target are the same: nothing would measure progress")
        return self


class AutoExecute(Model):
    """What may be started for the goal without a person."""

    classes: tuple[MissionType, ...] = Field(
        (), max_length=100, description="Types of mission that start by themselves; all others wait in the Inbox."
    )


class GoalTodo(Model):
    """A Todo to be made with the goal."""

    name: PartName = Field(description="Tells the to-dos apart; part of the name of the Todo.")
    title: Line = Field(description="One line that says what is to be done.")
    assignee: Subject | None = Field(None, description="Who does it: user:<name> or agent:<namespace>/<name>.")
    due_date: Date | None = Field(None, description="Last day for it.")


class GoalSpec(Model):
    """An objective that missions work towards."""

    objective: Annotated[str, StringConstraints(min_length=1, max_length=10_000, strip_whitespace=True)] = Field(
        description="What is to be reached."
    )
    owner: Line | None = Field(None, description="Person or team that answers for it.")
    project_ref: ObjectRef | None = Field(None, description="Project it belongs to.")
    metric: Metric | None = Field(None, description="The figure that says how far it is; missions.done when absent.")
    deadline: Time | None = Field(None, description="When it is to be reached.")
    cadence: PositiveDuration = Field("30m", description="How often it is looked at.")  # type: ignore[assignment]
    agent_selector: LabelSelector | None = Field(
        None, description="Agents for missions whose template names none; absent: they wait in the Inbox."
    )
    mission_templates: tuple[NamedMissionTemplate, ...] = Field(
        (),
        max_length=100,
        description="Missions that serve it; each is made again once its last one has ended.",
    )
    auto_execute: AutoExecute = Field(default_factory=AutoExecute, description="What may start without a person.")
    todos: tuple[GoalTodo, ...] = Field((), max_length=100, description="To-dos that are made with it.")
    suspend: Bool = Field(False, description="Make nothing new while true.")

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        require_unique((t.name for t in self.mission_templates), "the names of missionTemplates")
        require_unique((t.name for t in self.todos), "the names of todos")
        return self


class GoalReason(StrEnum):
    """Reasons of a Goal's conditions."""

    RECONCILED = "Reconciled"  # it is looked at every cadence
    NOT_RECONCILED_YET = "NotReconciledYet"  # accepted; no controller of this version acts on it
    SUSPENDED = "Suspended"  # spec.suspend
    HELD = "Held"  # a Hold stops it
    IN_PROGRESS = "InProgress"  # the target is not reached yet
    REACHED = "Reached"  # the target is reached
    OVERDUE = "Overdue"  # the deadline is over and the target is not reached
    MISSIONS_FAIL = "MissionsFail"  # three missions of a template failed in a row: none is made until somebody looked
    NO_FIGURE = "NoFigure"  # nothing has reported the metric yet
    REFERENCE_NOT_FOUND = "ReferenceNotFound"  # projectRef or an agent of a template names nothing
    IN_USE = "InUse"  # deletion waits: missions refer to it
    DELETING = "Deleting"  # deletionTimestamp is set


class MissionCounts(StatusModel):
    """Missions by how they stand."""

    total: int = Field(0, description="All.")
    active: int = Field(0, description="Not ended.")
    done: int = Field(0, description="Done.")
    failed: int = Field(0, description="Failed.")


class TemplateStatus(StatusModel):
    """What was made from one template."""

    name: str = Field(description="Name of the template.")
    made: int = Field(0, description="Missions ever made; numbers the next one.")
    mission: str = Field("", description="Name of the last one.")
    state: MissionState | None = Field(None, description="How that one stands.")
    failures: int = Field(0, description="Missions that failed in a row.")


class GoalStatus(StatusModel):
    """How far it is."""

    conditions: Conditions = Field((), description="Ready, Reached.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    progress: float | None = Field(None, description="0..1, from the start of the metric to its target.")
    value: float | None = Field(None, description="Latest value of the metric.")
    spend: Spend = Field(default_factory=Spend, description="Used by all its missions.")
    missions: MissionCounts = Field(default_factory=MissionCounts, description="Its missions by how they stand.")
    templates: tuple[TemplateStatus, ...] = Field((), description="What was made from each template, by name.")
    todos: tuple[str, ...] = Field((), description="Names of its to-dos, sorted.")
    last_review_time: Time | None = Field(None, description="When it was last looked at.")
    next_review_time: Time | None = Field(None, description="When it is looked at next.")
    last_handled_reconcile: str | None = Field(None, description="Latest reconcile token acted on.")


KIND = KindInfo(
    kind="Goal",
    plural="goals",
    short_names=("gl",),
    object_class=ObjectClass.INTENT,
    spec=GoalSpec,
    status=GoalStatus,
    reasons=GoalReason,
    description="An objective that missions work towards.",
    max_name=160,  # its missions and to-dos add the name of their template
    condition_types=("Ready", "Reached"),
    columns=(
        Column("REACHED", "status.conditions[Reached].status"),
        Column("PROGRESS", "status.progress"),
        Column("ACTIVE", "status.missions.active", "integer"),
        Column("DONE", "status.missions.done", "integer"),
        Column("DEADLINE", "spec.deadline", "date"),
        Column("OBJECTIVE", "spec.objective", wide=True),
        Column("REASON", "status.conditions[Ready].reason", wide=True),
        Column("COST", "status.spend.usd", "money", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
    disruption={"": Disruption.LIVE, "missionTemplates": Disruption.NEXT_RUN},
)
