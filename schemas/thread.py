"""Thread: the conversation about a mission or in a project. A record; its messages are found by the event log."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.base import Bool, Model, ObjectRef, StatusModel
from schemas.conditions import NoReason
from schemas.kind import Column, KindInfo, ObjectClass
from schemas.quantities import Time


class ThreadOf(StrEnum):
    """What a thread is about."""

    MISSION = "Mission"  # what is said about one mission
    PROJECT = "Project"  # what is said in a project, beside its missions


class ThreadSpec(Model):
    """What it is about: there is one for each mission and each project."""

    of: ThreadOf = Field(description="Mission or Project.")
    subject_ref: ObjectRef = Field(description="The mission or the project.")


class Reader(StatusModel):
    """A person who follows a thread, or once did."""

    subject: str = Field(description="Who: user:...")
    subscribed: Bool = Field(True, description="Whether what is new counts as unread.")
    read: int = Field(0, description="Number of the last message that was read.")
    mentions: int = Field(0, description="Unread messages that name the person.")


class ThreadStatus(StatusModel):
    """How it stands. Unread of a reader is ``messages`` less what was read."""

    messages: int = Field(0, description="Messages in it; the latest has this number.")
    last_message_at: Time | None = Field(None, description="When the latest came.")
    last_author: str = Field("", description="Who said it.")
    readers: tuple[Reader, ...] = Field((), description="People who follow it, by name.")


KIND = KindInfo(
    kind="Thread",
    plural="threads",
    short_names=("th",),
    object_class=ObjectClass.RECORD,
    spec=ThreadSpec,
    status=ThreadStatus,
    reasons=NoReason,
    description="The conversation about a mission or in a project.",
    condition_types=(),
    columns=(
        Column("OF", "spec.of"),
        Column("SUBJECT", "spec.subjectRef.name"),
        Column("MESSAGES", "status.messages", "integer"),
        Column("LAST", "status.lastMessageAt", "date"),
        Column("BY", "status.lastAuthor"),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
)
