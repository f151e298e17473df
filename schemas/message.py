"""Message: something that a person, an agent or the engine said. A record."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.base import Bool, Model, ObjectRef, StatusModel
from schemas.conditions import Conditions
from schemas.kind import Column, KindInfo, ObjectClass
from schemas.quantities import Time


class Direction(StrEnum):
    """Which way it goes."""

    INBOUND = "Inbound"  # from a person or a service to an agent
    OUTBOUND = "Outbound"  # from an agent or the engine to people


class MessageState(StrEnum):
    """Life of a message."""

    PENDING = "Pending"  # it is to go out
    DELIVERED = "Delivered"  # the other side has it
    BLOCKED = "Blocked"  # an autonomy limit or a Hold stopped it
    CANCELED = "Canceled"  # a person spoke first, or its mission ended
    FAILED = "Failed"  # it could not be delivered


class MessageSpec(Model):
    """What was said."""

    direction: Direction = Field(description="Inbound or Outbound.")
    author: str = Field(description="Who: user:..., agent:..., controller:...")
    text: str = Field(description="What was said, redacted.")
    session_ref: ObjectRef | None = Field(None, description="The session it belongs to.")
    mission_ref: ObjectRef | None = Field(None, description="The mission it is about.")
    channel_ref: ObjectRef | None = Field(None, description="The channel it goes through.")
    thread_ref: ObjectRef | None = Field(None, description="The thread that it stands in.")
    in_reply_to: str = Field("", description="uid of the message that it answers.")
    mentions: tuple[str, ...] = Field((), description="Who is addressed in it, sorted.")
    autonomous: Bool = Field(False, description="Whether an agent sent it without being asked.")
    sequence: int = Field(0, description="Which decision of its session it belongs to, from 1; 0 outside a session.")
    command: str = Field("", description="Name of the command that it gives, without the slash.")
    arguments: str = Field("", description="What follows the name of the command.")
    copy_of: str = Field("", description="uid of the message in the thread of a project that an agent gets this for.")
    follow_up: Bool = Field(False, description="Whether the agent asked for it before, to be told or sent now.")
    external_id: str = Field("", description="Its id in the service that carried it.")
    idempotency_key: str = Field(description="The same message again has the same key and is kept once.")


class MessageReason(StrEnum):
    """Reasons of a Message's Succeeded condition."""

    PENDING = "Pending"  # it is to go out
    DELIVERED = "Delivered"  # the other side has it
    HARD_CAP = "HardCap"  # too many in a row without a person
    COOLDOWN = "Cooldown"  # too soon after the one before
    HELD = "Held"  # a Hold stops it
    NOT_ALLOWED = "NotAllowed"  # a policy forbids it
    PERSON_SPOKE = "PersonSpoke"  # a person wrote before it went out
    MISSION_ENDED = "MissionEnded"  # what it was about is over
    DELIVERY_FAILED = "DeliveryFailed"  # the service refused it for good


class MessageStatus(StatusModel):
    """What became of it."""

    state: MessageState = Field(MessageState.PENDING, description="Where it stands.")
    conditions: Conditions = Field((), description="Succeeded.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    number: int = Field(0, description="Its place in the thread, from 1; 0 while it does not stand there.")
    sent_at: Time | None = Field(None, description="When it went out.")
    delivered_at: Time | None = Field(None, description="When the other side had it.")
    attempts: int = Field(0, description="How often it was tried.")
    last_error: str = Field("", description="What the service last said when it refused.")


KIND = KindInfo(
    kind="Message",
    plural="messages",
    short_names=("msg",),
    object_class=ObjectClass.RECORD,
    spec=MessageSpec,
    status=MessageStatus,
    reasons=MessageReason,
    description="Something that a person, an agent or the engine said.",
    bounded=True,
    condition_types=("Succeeded",),
    columns=(
        Column("STATE", "status.state"),
        Column("DIRECTION", "spec.direction"),
        Column("AUTHOR", "spec.author"),
        Column("TEXT", "spec.text"),
        Column("MISSION", "spec.missionRef.name", wide=True),
        Column("THREAD", "spec.threadRef.name", wide=True),
        Column("NUMBER", "status.number", "integer", wide=True),
        Column("CHANNEL", "spec.channelRef.name", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
)
