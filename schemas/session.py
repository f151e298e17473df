"""Session: one conversation of an agent. A record; its counters hold how far the agent went by itself."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.base import Bool, Model, ObjectRef, StatusModel
from schemas.conditions import Conditions
from schemas.kind import Column, KindInfo, ObjectClass
from schemas.loop import SessionLoop
from schemas.mission import Spend
from schemas.quantities import Time


class SessionState(StrEnum):
    """Life of a session."""

    OPEN = "Open"  # it may go on
    PAUSED = "Paused"  # it waits for a person
    CLOSED = "Closed"  # it is over


class SessionSpec(Model):
    """Whose conversation it is, and about what."""

    agent_ref: ObjectRef = Field(description="The agent.")
    mission_ref: ObjectRef | None = Field(None, description="The mission it is about, where there is one.")
    channel_ref: ObjectRef | None = Field(None, description="The channel it is held in, where there is one.")
    external_id: str = Field("", description="The agent program's own session.")
    prompt_digest: str = Field("", description="sha256:<hex> of the system prompt it began with.")


class SessionReason(StrEnum):
    """Reasons of a Session's Ready condition."""

    OPEN = "Open"  # it may go on
    HARD_CAP = "HardCap"  # as many messages in a row as it may send without a person
    COOLDOWN = "Cooldown"  # it waits before the next message
    HELD = "Held"  # a Hold stops its agent
    CLOSED = "Closed"  # it is over


class FollowUp(StatusModel):
    """Something that the agent asked to be told, or to have said, later."""

    id: str = Field(description="Names it within the session.")
    due_at: Time = Field(description="When.")
    say: Bool = Field(False, description="Whether it is said to people; else the agent is told.")
    text: str = Field("", description="What is told or said, redacted.")


class ChatCommand(StatusModel):
    """A command that the agent takes in chat."""

    name: str = Field(description="Without the slash.")
    description: str = Field("", description="What it does, in one line.")


class SessionStatus(StatusModel):
    """How it stands."""

    state: SessionState = Field(SessionState.OPEN, description="Where it stands.")
    conditions: Conditions = Field((), description="Ready.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    consecutive: int = Field(0, description="Messages by itself since the last one from a person.")
    messages: int = Field(0, description="Messages in all.")
    last_message_at: Time | None = Field(None, description="When the last one was sent.")
    last_human_message_at: Time | None = Field(None, description="When a person last wrote.")
    cooldown_until: Time | None = Field(None, description="It sends nothing by itself before.")
    pending_effects: int = Field(0, description="Messages and timers that a person's message would cancel.")
    queue: tuple[str, ...] = Field((), description="Names of messages that are to go out, in their order.")
    inbound: tuple[str, ...] = Field((), description="Names of messages that the agent has not seen, oldest first.")
    sequence: int = Field(0, description="How many events were decided in it; each has its number in the log.")
    follow_ups: tuple[FollowUp, ...] = Field((), description="What the agent asked for, that is not due yet.")
    commands: tuple[ChatCommand, ...] = Field((), description="Commands that its agent takes, by name.")
    open_commands: tuple[str, ...] = Field((), description="uids of commands without an answer yet, oldest first.")
    last_human_message: str = Field("", description="uid of the latest message from a person.")
    owed: bool = Field(False, description="Whether that one was not answered yet.")
    blocked: int = Field(0, description="Messages that a limit stopped.")
    spend: Spend = Field(default_factory=Spend, description="Used by its runs.")
    loop: SessionLoop | None = Field(None, description="What is counted to notice work that goes around in circles.")
    closed_at: Time | None = Field(None, description="When it was closed.")


KIND = KindInfo(
    kind="Session",
    plural="sessions",
    short_names=("se",),
    object_class=ObjectClass.RECORD,
    spec=SessionSpec,
    status=SessionStatus,
    reasons=SessionReason,
    description="One conversation of an agent.",
    columns=(
        Column("STATE", "status.state"),
        Column("AGENT", "spec.agentRef.name"),
        Column("MISSION", "spec.missionRef.name"),
        Column("IN A ROW", "status.consecutive", "integer"),
        Column("MESSAGES", "status.messages", "integer"),
        Column("PENDING", "status.pendingEffects", "integer", wide=True),
        Column("BLOCKED", "status.blocked", "integer", wide=True),
        Column("LAST", "status.lastMessageAt", "date"),
        Column("COST", "status.spend.usd", "money", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
)
