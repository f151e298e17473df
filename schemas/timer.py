"""Timer: when a key wants to be looked at next. A record of the store's own table; it is shown, never addressed."""

from __future__ import annotations

from pydantic import Field

from schemas.base import Model, StatusModel
from schemas.conditions import NoReason
from schemas.kind import Column, KindInfo, ObjectClass
from schemas.quantities import Time


class TimerSpec(Model):
    """One wait, at most one for each subject and purpose."""

    subject: str = Field(description="kind/namespace/name of the object that is looked at then.")
    purpose: str = Field(description="Word of the controller that waits.")
    due_at: Time = Field(description="When.")


class TimerStatus(StatusModel):
    """Nothing: a timer that has fired is gone."""


KIND = KindInfo(
    kind="Timer",
    plural="timers",
    short_names=(),
    object_class=ObjectClass.RECORD,
    spec=TimerSpec,
    status=TimerStatus,
    reasons=NoReason,
    description="When an object is looked at next.",
    own_table=True,
    condition_types=(),
    columns=(
        Column("SUBJECT", "spec.subject"),
        Column("PURPOSE", "spec.purpose"),
        Column("DUE", "spec.dueAt", "date"),
    ),
)
