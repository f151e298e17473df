"""Calendar: a calendar of people elsewhere, whose busy times are seen, and into which what is due may be written."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from schemas.base import Bool, Line, Model, StatusModel, block_by_type
from schemas.conditions import Conditions
from schemas.kind import Column, Disruption, KindInfo, ObjectClass
from schemas.quantities import PositiveDuration, Time
from schemas.secret import ValueFrom

MOST_BUSY = 500
"""Busy times of one calendar that are kept."""
MOST_WRITTEN = 1_000
"""Entries that are written into one calendar at a time."""
SHORTEST_INTERVAL = timedelta(minutes=1)
LONGEST_HORIZON = timedelta(days=90)


class CalendarType(StrEnum):
    """How the calendar is reached."""

    ICS = "Ics"  # a file at an address, as calendars publish it; read only
    CAL_DAV = "CalDav"  # a collection of a CalDAV server
    GOOGLE = "Google"  # a calendar of Google Calendar


class Written(StrEnum):
    """What is written into the calendar."""

    FIRE = "Fire"  # missions that schedules will make
    DEADLINE = "Deadline"  # deadlines of goals and of missions under way
    TODO = "Todo"  # last days of to-dos


def _web_url(value: str) -> str:
    authority = value.split("://", 1)[1].split("/", 1)[0]
    if "@" in authority or "#" in value or not authority:
        raise ValueError("write an address such as https://cal.example.org/team/, without user, password and fragment")
    return value


WebUrl = Annotated[
    str, StringConstraints(pattern=r"^https?://[\x21-\x7e]+$", max_length=2048), AfterValidator(_web_url)
]


class Ics(Model):
    """A file that a calendar publishes. An address that is itself a secret is given by reference."""

    url: WebUrl | None = Field(None, description="Where it is.")
    url_from: ValueFrom | None = Field(None, description="The same, where the address is a secret.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.url is None) == (self.url_from is None):
            raise ValueError("give exactly one of url and urlFrom")
        return self


class CalDav(Model):
    """A collection of a CalDAV server."""

    url: WebUrl = Field(description="Address of the collection.")
    username: Line | None = Field(None, description="User, where it asks for one.")
    password: ValueFrom | None = Field(None, description="Password of the user.")

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("give username and password, or neither")
        if self.username is not None and ":" in self.username:
            raise ValueError("a user name holds no ':'")
        return self


class Google(Model):
    """A calendar of Google Calendar, by the consent of a user."""

    calendar_id: Annotated[str, StringConstraints(min_length=1, max_length=320, pattern=r"^[!-~]+$")] = Field(
        "primary", description="Id of the calendar, as its settings show it."
    )
    client_id: Annotated[str, StringConstraints(min_length=1, max_length=320, pattern=r"^[!-~]+$")] = Field(
        description="Id of the OAuth client."
    )
    client_secret: ValueFrom = Field(description="Secret of the OAuth client.")
    refresh_token: ValueFrom = Field(description="Refresh token that the user's consent gave.")


class Write(Model):
    """What is written into the calendar. Only what Remit wrote itself is ever changed or removed there."""

    types: tuple[Written, ...] = Field(
        (Written.FIRE, Written.DEADLINE, Written.TODO), min_length=1, description="Fire, Deadline, Todo."
    )

    @field_validator("types")
    @classmethod
    def _each_once(cls, value: tuple[Written, ...]) -> tuple[Written, ...]:
        return tuple(each for each in Written if each in value)


_BLOCKS = {CalendarType.ICS: "ics", CalendarType.CAL_DAV: "cal_dav", CalendarType.GOOGLE: "google"}
_WIRE = {CalendarType.ICS: "ics", CalendarType.CAL_DAV: "calDav", CalendarType.GOOGLE: "google"}


class CalendarSpec(Model):
    """A calendar of people elsewhere."""

    model_config = block_by_type(_WIRE.items())

    type: CalendarType = Field(description="Ics, CalDav or Google.")
    description: str | None = Field(None, max_length=10_000, description="Whose it is.")
    ics: Ics | None = Field(None, description="For type Ics.")
    cal_dav: CalDav | None = Field(None, description="For type CalDav.")
    google: Google | None = Field(None, description="For type Google.")
    busy: Bool = Field(True, description="Whether its events are shown as busy times.")
    write: Write | None = Field(None, description="What is written into it; nothing when absent.")
    interval: PositiveDuration = Field("15m", description="How often it is looked at; 1m or more.")  # type: ignore[assignment]
    horizon: PositiveDuration = Field("14d", description="How far ahead; 90d or less.")  # type: ignore[assignment]
    allow_private: Bool = Field(False, description="Whether its address may be private or loopback.")
    suspend: Bool = Field(False, description="Neither read nor write while true.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        wanted = _BLOCKS[self.type]
        for type_, block in _BLOCKS.items():
            given = getattr(self, block) is not None
            if given and block != wanted:
                raise ValueError(f"type {self.type} does not take the block {_WIRE[type_]}")
            if not given and block == wanted:
                raise ValueError(f"type {self.type} needs the block {_WIRE[type_]}")
        if self.write is not None and self.type is CalendarType.ICS:
            raise ValueError("a published file cannot be written into: use type CalDav or Google")
        if self.interval < SHORTEST_INTERVAL:
            raise ValueError("interval must be 1m or more")
        if self.horizon > LONGEST_HORIZON:
            raise ValueError("horizon must be 90d or less")
        secret = self.cal_dav is not None and self.cal_dav.password is not None
        if secret and self.cal_dav is not None and self.cal_dav.url.startswith("http://") and not self.allow_private:
            raise ValueError("the password would travel readable: use https://, or allowPrivate on a network of yours")
        return self

    def references(self) -> Iterator[ValueFrom]:
        """Every secret that it names."""
        if self.ics is not None and self.ics.url_from is not None:
            yield self.ics.url_from
        if self.cal_dav is not None and self.cal_dav.password is not None:
            yield self.cal_dav.password
        if self.google is not None:
            yield self.google.client_secret
            yield self.google.refresh_token


class CalendarReason(StrEnum):
    """Reasons of a Calendar's conditions."""

    RECONCILED = "Reconciled"  # it is looked at every interval
    NOT_RECONCILED_YET = "NotReconciledYet"  # accepted; no controller of this version acts on it
    PROGRESSING = "Progressing"  # it is looked at for the first time
    SUSPENDED = "Suspended"  # spec.suspend
    SECRET_NOT_FOUND = "SecretNotFound"  # a valueFrom names nothing # noqa: S105
    UNREACHABLE = "Unreachable"  # its server does not answer; tried again
    REFUSED = "Refused"  # its server refuses, or its address may not be reached; see status.lastError
    UNREADABLE = "Unreadable"  # what its server answers is no calendar
    DELETING = "Deleting"  # deletionTimestamp is set


class BusyTime(StatusModel):
    """A time at which somebody has something else to do."""

    start: Time = Field(description="Begin.")
    end: Time = Field(description="End.")
    title: str = Field("busy", description="What it is, as the calendar says.")


class CalendarStatus(StatusModel):
    """What was seen in it and written into it."""

    conditions: Conditions = Field((), description="Ready.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    busy: tuple[BusyTime, ...] = Field((), description="Busy times up to the horizon, by start.")
    busy_until: Time | None = Field(None, description="Where there are more than are kept: known up to then only.")
    written: int = Field(0, description="Entries of Remit that are in it.")
    last_sync_time: Time | None = Field(None, description="When it was last looked at with success.")
    next_sync_time: Time | None = Field(None, description="When it is looked at next.")
    last_error: str = Field("", description="What went wrong last; empty after a success.")
    asked: str = Field("", description="Key of the look that was last asked for.")
    last_handled_reconcile: str | None = Field(None, description="Latest reconcile token acted on.")


KIND = KindInfo(
    kind="Calendar",
    plural="calendars",
    short_names=("cal",),
    object_class=ObjectClass.INTENT,
    spec=CalendarSpec,
    status=CalendarStatus,
    reasons=CalendarReason,
    description="A calendar of people elsewhere.",
    columns=(
        Column("TYPE", "spec.type"),
        Column("READY", "status.conditions[Ready].status"),
        Column("WRITTEN", "status.written", "integer"),
        Column("SYNCED", "status.lastSyncTime", "date"),
        Column("REASON", "status.conditions[Ready].reason"),
        Column("NEXT", "status.nextSyncTime", "date", wide=True),
        Column("ERROR", "status.lastError", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
    disruption={"": Disruption.LIVE},
)
