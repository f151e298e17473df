"""Notification: what people were told, once for each occurrence, and which channels it went through. A record."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.alert import Severity
from schemas.base import Int, Labels, Model, StatusModel
from schemas.channel import Notification
from schemas.conditions import Conditions
from schemas.kind import Column, KindInfo, ObjectClass
from schemas.quantities import Time


class NotificationState(StrEnum):
    """How far it came."""

    SHOWN = "Shown"  # it stands in the notification centre, and goes nowhere else
    WAITING = "Waiting"  # a channel is still to carry it
    SENT = "Sent"  # every channel that was to carry it did
    FAILED = "Failed"  # a channel gave it up


class DeliveryState(StrEnum):
    """How far it came through one channel."""

    SHOWN = "Shown"  # the channel is the notification centre
    WAITING = "Waiting"  # it is on its way
    HELD = "Held"  # it goes out together with others: at the end of quiet hours, or because they came all at once
    SENT = "Sent"  # the service took it
    FAILED = "Failed"  # the service refused it for good, or for too long
    DROPPED = "Dropped"  # the channel was suspended or removed meanwhile


class Delivery(StatusModel):
    """Its way through one channel."""

    channel: str = Field(description="Name of the channel.")
    channel_uid: str = Field(description="Its uid.")
    key: str = Field(description="Idempotency key: the same message again has the same one.")
    state: DeliveryState = Field(DeliveryState.WAITING, description="How far it came.")
    due: Time | None = Field(None, description="When it goes out at the earliest, where that is later.")
    at: Time | None = Field(None, description="When it came to its end.")
    error: str = Field("", description="What the service said when it refused, redacted.")
    external_id: str = Field("", description="Its id in the service that carried it.")


class NotificationSpec(Model):
    """What people are told."""

    event: Notification = Field(description="What it is about.")
    severity: Severity = Field(description="Low, Medium, High or Critical.")
    subject: str = Field(description="kind/namespace/name of what it is about.")
    subject_uid: str = Field("", description="Its uid.")
    labels: Labels = Field(default_factory=dict, description="Labels that matchLabels of routes looked at.")
    title: str = Field(description="One line for people.")
    text: str = Field("", description="What happened, why, and until when; plain text, redacted.")
    command: str = Field("", description="The command that moves it on.")
    until: Time | None = Field(None, description="When it is too late.")
    at: Time = Field(description="When it happened.")
    event_seq: Int = Field(0, description="Row of the event log that it comes from.")


class NotificationReason(StrEnum):
    """Reasons of a Notification's Succeeded condition."""

    SHOWN = "Shown"  # it stands in the notification centre
    WAITING = "Waiting"  # a channel is still to carry it
    SENT = "Sent"  # it went out
    DELIVERY_FAILED = "DeliveryFailed"  # a channel gave it up


class NotificationStatus(StatusModel):
    """What became of it."""

    state: NotificationState = Field(NotificationState.SHOWN, description="How far it came.")
    conditions: Conditions = Field((), description="Succeeded.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    deliveries: tuple[Delivery, ...] = Field((), description="Its way through each channel, by name.")


KIND = KindInfo(
    kind="Notification",
    plural="notifications",
    short_names=("nt",),
    object_class=ObjectClass.RECORD,
    spec=NotificationSpec,
    status=NotificationStatus,
    reasons=NotificationReason,
    description="What people were told.",
    bounded=True,
    condition_types=("Succeeded",),
    columns=(
        Column("STATE", "status.state"),
        Column("EVENT", "spec.event"),
        Column("SEVERITY", "spec.severity"),
        Column("TITLE", "spec.title"),
        Column("SUBJECT", "spec.subject", wide=True),
        Column("COMMAND", "spec.command", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
)
