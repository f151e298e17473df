"""Channel: where people and agents talk and are told. ``type`` selects the block that says how to get there."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema, model_validator

from schemas.alert import Severity
from schemas.base import Bool, Int, Labels, Line, Model, StatusModel, Subject, block_by_type, require_unique
from schemas.conditions import Conditions
from schemas.kind import Column, Disruption, KindInfo, ObjectClass
from schemas.quantities import Time
from schemas.secret import ValueFrom
from schemas.time_zone import TimeZone


class ChannelType(StrEnum):
    """How people are reached."""

    DASHBOARD = "Dashboard"  # the notification centre of the dashboard
    TELEGRAM = "Telegram"  # a chat with a Telegram bot
    SLACK = "Slack"  # a Slack channel with an app in it
    EMAIL = "Email"  # mail over SMTP
    WEBHOOK = "Webhook"  # a signed POST
    APPRISE = "Apprise"  # any service that the Apprise library knows; one way only


class Notification(StrEnum):
    """What people are told."""

    APPROVAL_REQUIRED = "ApprovalRequired"  # an action or a review waits for leave
    APPROVAL_REMINDER = "ApprovalReminder"  # half the time for an answer is over
    APPROVAL_EXPIRED = "ApprovalExpired"  # nobody answered in time
    ASSISTANCE_REQUIRED = "AssistanceRequired"  # a mission is Blocked and needs a person
    MISSION_FAILED = "MissionFailed"  # every attempt failed
    MISSION_COMPLETED = "MissionCompleted"  # a mission is Done
    TODO_ASSIGNED = "TodoAssigned"  # a person has something to do
    BUDGET_WARNING = "BudgetWarning"  # a budget is above warnAt
    BUDGET_EXCEEDED = "BudgetExceeded"  # a limit is reached
    AGENT_UNHEALTHY = "AgentUnhealthy"  # an agent is stale, keeps failing, or is not what is declared
    LOOP_DETECTED = "LoopDetected"  # work goes around in circles and was contained
    SECURITY_VIOLATION = "SecurityViolation"  # somebody tried what they may not
    CONFIRMATION_REQUIRED = "ConfirmationRequired"  # a guard holds a plan back
    SYNC_FAILED = "SyncFailed"  # a source cannot be read, or a unit does not compile
    HOLD_PLACED = "HoldPlaced"  # work was held or stopped
    HOLD_RELEASED = "HoldReleased"  # a hold ended
    DAILY_SUMMARY = "DailySummary"  # what happened since yesterday
    MESSAGE = "Message"  # an agent wrote to this channel


DEFAULT_NOTIFICATIONS = (
    Notification.APPROVAL_REQUIRED,
    Notification.ASSISTANCE_REQUIRED,
    Notification.MISSION_FAILED,
)
"""What a channel without routes is told (requirement E3)."""


def _each_event_once(value: tuple[Notification, ...]) -> tuple[Notification, ...]:
    require_unique(value, "events")
    return tuple(event for event in Notification if event in value)


class Route(Model):
    """What is sent here."""

    events: Annotated[tuple[Notification, ...], AfterValidator(_each_event_once)] = Field(
        min_length=1, description="What people are told."
    )
    severity: Severity = Field(Severity.LOW, description="Only what is at least this pressing.")
    match_labels: Labels = Field(
        default_factory=dict, description="Only what concerns objects with these labels; empty for all."
    )


def _chat_id(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else value


_CHAT_ID = r"^(-?[0-9]{1,19}|@[A-Za-z][A-Za-z0-9_]{3,63})$"
ChatId = Annotated[
    str,
    StringConstraints(pattern=_CHAT_ID),
    BeforeValidator(_chat_id),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": _CHAT_ID}]}),
]
"""A Telegram chat: its number, or @name of a public one. Kept as text."""
EmailAddress = Annotated[
    str,
    StringConstraints(
        max_length=320, pattern=r"^[A-Za-z0-9._%+'-]+@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$", to_lower=True
    ),
]
WebUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s\x00-\x1f\x7f]+$", max_length=2048)]
HostName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$", max_length=253, to_lower=True)
]
ClockTime = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class Telegram(Model):
    """A chat with a bot."""

    chat_id: ChatId = Field(description="Number of the chat, or @name of a public one.")
    thread_id: Int | None = Field(None, ge=1, le=2**53, description="Topic of a forum group.")
    token: ValueFrom = Field(description="Token of the bot.")
    allowed_user_ids: tuple[Annotated[Int, Field(ge=1, le=2**53)], ...] = Field(
        (), max_length=1000, description="Users whose buttons and commands count; empty for none."
    )


class Slack(Model):
    """A Slack channel."""

    channel: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]{7,20}$|^#[a-z0-9_-]{1,80}$")] = Field(
        description="Id of the channel, or #name."
    )
    token: ValueFrom = Field(description="Token of the app's bot.")
    signing_secret: ValueFrom | None = Field(None, description="Proves that buttons come from Slack.")
    allowed_responder_ids: tuple[Annotated[str, StringConstraints(pattern=r"^[UW][A-Z0-9]{7,20}$")], ...] = Field(
        (), max_length=1000, description="Users whose buttons count; empty for none."
    )


class Smtp(Model):
    """A mail server."""

    host: HostName = Field("localhost", description="Host.")
    port: Int = Field(587, ge=1, le=65_535, description="Port.")
    username: Line | None = Field(None, description="User, where it asks for one.")
    password: ValueFrom | None = Field(None, description="Password of the user.")
    tls: Bool = Field(True, description="Whether the connection must be encrypted.")


class Email(Model):
    """Mail."""

    to: tuple[EmailAddress, ...] = Field(min_length=1, max_length=100, description="Recipients.")
    sender: EmailAddress | None = Field(None, alias="from", description="Sender; the first recipient when absent.")
    smtp: Smtp = Field(default_factory=Smtp, description="Server that takes the mail.")


class Webhook(Model):
    """A signed POST with the event as JSON."""

    url: WebUrl = Field(description="Where it is posted.")
    secret: ValueFrom | None = Field(None, description="Key of the HMAC-SHA256 in X-Remit-Signature.")
    allow_private: Bool = Field(
        False,
        description="Whether the address may be private or loopback. Counts in the namespace default, where operators "
        "write; a tenant's channel reaches public addresses only.",
    )


class Apprise(Model):
    """Any service that the Apprise library knows."""

    url: ValueFrom = Field(description="Apprise URL; by reference, as it holds credentials.")


class QuietHours(Model):
    """When only what is Critical is sent; the rest follows at the end."""

    start: ClockTime = Field(description="Beginning, such as 22:00.")
    end: ClockTime = Field(description="End, such as 07:00; may be on the next day.")
    time_zone: TimeZone = Field("UTC", description="Whose clock, such as Europe/Berlin.")

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        if self.start == self.end:
            raise ValueError("start and end are the same: to send nothing, declare routes: []")
        return self


class Identity(Model):
    """Who an outside account is. Proven once by a code before it counts."""

    external: Annotated[str, StringConstraints(min_length=1, max_length=320, pattern=r"^[!-~]+$")] = Field(
        description="Account, as the service writes it: a user id or an address."
    )
    subject: Subject = Field(description="Who it is: user:<name>.")


_BLOCKS = {
    ChannelType.DASHBOARD: None,
    ChannelType.TELEGRAM: "telegram",
    ChannelType.SLACK: "slack",
    ChannelType.EMAIL: "email",
    ChannelType.WEBHOOK: "webhook",
    ChannelType.APPRISE: "apprise",
}


class ChannelSpec(Model):
    """Where people and agents talk and are told."""

    model_config = block_by_type(_BLOCKS.items())

    type: ChannelType = Field(description="Dashboard, Telegram, Slack, Email, Webhook or Apprise.")
    description: str | None = Field(None, max_length=10_000, description="What it is for.")
    routes: tuple[Route, ...] = Field(
        (Route(events=DEFAULT_NOTIFICATIONS),),
        max_length=100,
        description="What is sent here; absent: approval required, assistance required, mission failed. [] is nothing.",
    )
    telegram: Telegram | None = Field(None, description="For type Telegram.")
    slack: Slack | None = Field(None, description="For type Slack.")
    email: Email | None = Field(None, description="For type Email.")
    webhook: Webhook | None = Field(None, description="For type Webhook.")
    apprise: Apprise | None = Field(None, description="For type Apprise.")
    quiet_hours: QuietHours | None = Field(None, description="When only what is Critical is sent.")
    identities: tuple[Identity, ...] = Field((), max_length=10_000, description="Who outside accounts are.")
    suspend: Bool = Field(False, description="Send nothing while true.")

    @model_validator(mode="after")
    def _one_block(self) -> Self:
        wanted = _BLOCKS[self.type]
        for block in _BLOCKS.values():
            if block is None:
                continue
            given = getattr(self, block) is not None
            if given and block != wanted:
                raise ValueError(f"type {self.type} does not take the block {block}")
            if not given and block == wanted:
                raise ValueError(f"type {self.type} needs the block {block}")
        require_unique((i.external for i in self.identities), "the external accounts of identities")
        return self


class ChannelReason(StrEnum):
    """Reasons of a Channel's conditions."""

    RECONCILED = "Reconciled"  # messages go out
    NOT_RECONCILED_YET = "NotReconciledYet"  # accepted; no controller of this version acts on it
    SUSPENDED = "Suspended"  # spec.suspend
    SECRET_NOT_FOUND = "SecretNotFound"  # a valueFrom names nothing # noqa: S105
    DELIVERY_FAILED = "DeliveryFailed"  # the service refuses or cannot be reached; see status.lastError


class ChannelStatus(StatusModel):
    """How it fares."""

    conditions: Conditions = Field((), description="Ready.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    delivered: int = Field(0, description="Messages that went out, ever.")
    waiting: int = Field(0, description="Messages that are to go out.")
    last_delivery_time: Time | None = Field(None, description="When one last went out.")
    last_error: str = Field("", description="What the service last said when it refused.")
    summarized_to: Time | None = Field(None, description="Up to when daily summaries were seen to.")
    proven_identities: tuple[str, ...] = Field((), description="Subjects that proved their account, sorted.")
    last_handled_reconcile: str | None = Field(None, description="Latest reconcile token acted on.")


KIND = KindInfo(
    kind="Channel",
    plural="channels",
    short_names=("ch",),
    object_class=ObjectClass.INTENT,
    spec=ChannelSpec,
    status=ChannelStatus,
    reasons=ChannelReason,
    description="Where people and agents talk and are told.",
    columns=(
        Column("TYPE", "spec.type"),
        Column("READY", "status.conditions[Ready].status"),
        Column("DELIVERED", "status.delivered", "integer"),
        Column("WAITING", "status.waiting", "integer"),
        Column("LAST", "status.lastDeliveryTime", "date"),
        Column("REASON", "status.conditions[Ready].reason", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
    disruption={"": Disruption.LIVE},
)
