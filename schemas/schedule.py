"""Schedule: makes missions at times of the calendar, in CronJob's words."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.base import MAX_SECONDS, Bool, Int, Model, Name, StatusModel
from schemas.conditions import Conditions
from schemas.cron import Cron
from schemas.kind import Column, Disruption, KindInfo, ObjectClass
from schemas.mission_template import MissionTemplate
from schemas.quantities import Time
from schemas.time_zone import TimeZone


class ConcurrencyPolicy(StrEnum):
    """What happens at a fire while a mission of an earlier one has not ended."""

    ALLOW = "Allow"  # both go on
    FORBID = "Forbid"  # the new one is skipped; with catchUp All it waits for its turn
    REPLACE = "Replace"  # the old one is canceled first


class CatchUp(StrEnum):
    """What happens to fires that came while the engine was down or the schedule stood still."""

    SKIP = "Skip"  # none of them is made up for
    LAST = "Last"  # only the last of them
    ALL = "All"  # each of them, oldest first; no more than the latest hundred


class ScheduleSpec(Model):
    """Makes missions at times of the calendar."""

    schedule: Cron = Field(
        description="Five fields (minute, hour, day of month, month, day of week), or @hourly, @daily, @weekly, "
        "@monthly, @yearly."
    )
    time_zone: TimeZone = Field("UTC", description="Where the schedule's clock hangs, such as Europe/Berlin.")
    concurrency_policy: ConcurrencyPolicy = Field(ConcurrencyPolicy.ALLOW, description="Allow, Forbid or Replace.")
    starting_deadline_seconds: Int | None = Field(
        None, ge=0, le=MAX_SECONDS, description="A fire that is later than this is missed for good."
    )
    suspend: Bool = Field(False, description="Make nothing new while true.")
    successful_history_limit: Int = Field(3, ge=0, le=10_000, description="Finished missions that are kept.")
    failed_history_limit: Int = Field(1, ge=0, le=10_000, description="Failed and canceled missions that are kept.")
    catch_up: CatchUp = Field(CatchUp.LAST, description="Fires that were missed: Skip, Last or All.")
    mission_template: MissionTemplate = Field(description="The mission that is made at each fire.")


class ScheduleReason(StrEnum):
    """Reasons of a Schedule's conditions."""

    RECONCILED = "Reconciled"  # it fires at status.nextFireTimes
    NOT_RECONCILED_YET = "NotReconciledYet"  # accepted; no controller of this version acts on it
    SUSPENDED = "Suspended"  # spec.suspend
    HELD = "Held"  # a Hold stops it
    STILL_ACTIVE = "StillActive"  # the last fire was skipped: a mission had not ended and concurrencyPolicy is Forbid
    MISSED = "Missed"  # fires were missed and are not made up for
    REFERENCE_NOT_FOUND = "ReferenceNotFound"  # the template names an agent, project or goal that does not exist
    DELETING = "Deleting"  # deletionTimestamp is set


class ScheduleStatus(StatusModel):
    """When it fired and will fire."""

    conditions: Conditions = Field((), description="Ready.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    active: tuple[Name, ...] = Field((), description="Its missions that have not ended, sorted.")
    last_schedule_time: Time | None = Field(None, description="The last fire that was acted on.")
    last_successful_time: Time | None = Field(None, description="When a mission of it was last Done.")
    next_fire_times: tuple[Time, ...] = Field((), description="The next five fires.")
    missed: int = Field(0, description="Fires that were skipped or came too late, ever.")
    handled_until: Time | None = Field(None, description="Every fire up to then has been seen to.")
    clock: str = Field("", description="Schedule and time zone that handledUntil speaks of.")
    last_handled_reconcile: str | None = Field(None, description="Latest reconcile token acted on.")


KIND = KindInfo(
    kind="Schedule",
    plural="schedules",
    short_names=("sched",),
    object_class=ObjectClass.INTENT,
    spec=ScheduleSpec,
    status=ScheduleStatus,
    reasons=ScheduleReason,
    description="Makes missions at times of the calendar.",
    max_name=220,  # its missions add the minute
    columns=(
        Column("SCHEDULE", "spec.schedule"),
        Column("TIME ZONE", "spec.timeZone"),
        Column("SUSPEND", "spec.suspend"),
        Column("LAST", "status.lastScheduleTime", "date"),
        Column("NEXT", "status.nextFireTimes[0]", "date"),
        Column("MISSED", "status.missed", "integer", wide=True),
        Column("REASON", "status.conditions[Ready].reason", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
    disruption={"": Disruption.LIVE, "missionTemplate": Disruption.NEXT_RUN},
)
