"""Todo: a small task for a person or an agent."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from schemas.base import Line, Model, ObjectRef, StatusModel, Subject
from schemas.conditions import Conditions
from schemas.kind import Column, Disruption, KindInfo, ObjectClass
from schemas.mission_template import MissionTemplate
from schemas.quantities import Date, Time


class TodoState(StrEnum):
    """Whether it is done; declared, not clicked."""

    OPEN = "Open"
    DONE = "Done"


class TodoSpec(Model):
    """A small task for a person or an agent."""

    title: Line = Field(description="One line that says what is to be done.")
    description: str | None = Field(None, max_length=100_000, description="The task in full.")
    assignee: Subject | None = Field(None, description="Who does it: user:<name> or agent:<namespace>/<name>.")
    due_date: Date | None = Field(None, description="Last day for it.")
    goal_ref: ObjectRef | None = Field(None, description="Goal it serves.")
    project_ref: ObjectRef | None = Field(None, description="Project it belongs to.")
    state: TodoState = Field(TodoState.OPEN, description="Open or Done.")
    mission_template: MissionTemplate | None = Field(
        None, description="Mission that does it; once it is Done, so is the to-do."
    )

    @model_validator(mode="after")
    def _one_worker(self) -> Self:
        if self.mission_template is not None and self.assignee is not None and self.assignee.startswith("user:"):
            raise ValueError("a mission does it or a person does: give missionTemplate or a user as assignee, not both")
        return self


class TodoReason(StrEnum):
    """Reasons of a Todo's conditions."""

    RECONCILED = "Reconciled"  # what it declares is in force
    OPEN = "Open"  # it is to be done
    DONE = "Done"  # it is done
    OVERDUE = "Overdue"  # dueDate is over and it is not done
    MISSION_RUNNING = "MissionRunning"  # its mission works on it
    MISSION_FAILED = "MissionFailed"  # its mission failed or was canceled
    NOT_RECONCILED_YET = "NotReconciledYet"  # accepted; no controller of this version acts on it
    REFERENCE_NOT_FOUND = "ReferenceNotFound"  # goalRef, projectRef or assignee names nothing
    DELETING = "Deleting"  # deletionTimestamp is set


class TodoStatus(StatusModel):
    """How it stands."""

    conditions: Conditions = Field((), description="Ready, Done.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    mission: str | None = Field(None, description="Name of the mission that was made for it.")
    done_at: Time | None = Field(None, description="When it was found done.")
    last_handled_reconcile: str | None = Field(None, description="Latest reconcile token acted on.")


KIND = KindInfo(
    kind="Todo",
    plural="todos",
    short_names=("td",),
    object_class=ObjectClass.INTENT,
    spec=TodoSpec,
    status=TodoStatus,
    reasons=TodoReason,
    description="A small task for a person or an agent.",
    max_name=230,  # its mission adds a word
    condition_types=("Ready", "Done"),
    columns=(
        Column("STATE", "spec.state"),
        Column("ASSIGNEE", "spec.assignee"),
        Column("DUE", "spec.dueDate"),
        Column("GOAL", "spec.goalRef.name"),
        Column("TITLE", "spec.title"),
        Column("MISSION", "status.mission", wide=True),
        Column("REASON", "status.conditions[Ready].reason", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
    disruption={"": Disruption.LIVE, "missionTemplate": Disruption.NEXT_RUN},
)
