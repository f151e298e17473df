"""The agent protocol on the wire: what a working agent sends about its run, and what it gets back.

Texts are not refused for being long or dirty: whoever records them cuts and cleans them. What identifies something
(names, media types, digests) is refused unless it is well formed.
"""

from __future__ import annotations

import base64
import binascii
import re
from decimal import ROUND_UP, Decimal, InvalidOperation
from enum import StrEnum
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from schemas.agent import AutonomyLevel
from schemas.base import MAX_SECONDS, JsonObject, Line, Model, Name, Subject
from schemas.message import MessageReason, MessageState
from schemas.mission import MissionType
from schemas.quantities import MONEY_PATTERN, Time, format_money, parse_money
from schemas.thread import ThreadOf

MAX_TOKENS = 10**12
"""Most tokens that one report may name."""
MAX_EVIDENCE = 100
MAX_FOLLOW_UP_S = 7 * 86_400
"""Longest time that a follow-up may lie ahead."""

_SEGMENT = re.compile(r"[^/\\\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


def _file_name(value: str) -> str:
    if value != value.strip() or any(
        part in (".", "..") or _SEGMENT.fullmatch(part) is None for part in value.split("/")
    ):
        raise ValueError("write a file name such as report.md, or a path below a folder such as logs/build.txt")
    return value


ArtifactName = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_file_name)]
"""A file name or a relative path with "/": safe to create below a folder."""
MediaType = Annotated[
    str,
    StringConstraints(
        max_length=127,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,62}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,62}"
        r"( ?; ?[A-Za-z0-9-]{1,20}=[A-Za-z0-9_.-]{1,30})?$",
    ),
]
"""A content type with at most one parameter: ``text/markdown``, ``text/plain; charset=utf-8``."""
ToolWord = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_.:/@*?\[\]!-]+$")]
"""A tool name or a glob, as in Policies."""
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


def _decode(value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError("write base64 as a text")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64 (RFC 4648, with padding, without line breaks)") from None


Base64 = Annotated[
    bytes,
    BeforeValidator(_decode),
    PlainSerializer(lambda data: base64.b64encode(data).decode("ascii"), return_type=str),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]


_PRICE = re.compile(r"[0-9]{1,10}\.[0-9]{7,40}")


def _cost(value: object) -> Decimal:
    """Rounded up to the millionth that the ledger keeps: programs add prices up as floats."""
    if isinstance(value, float) or (isinstance(value, str) and _PRICE.fullmatch(value)):
        try:
            amount = Decimal(str(value))
            if amount.is_finite() and amount >= 0 and amount.adjusted() < 12:
                value = amount.quantize(Decimal("0.000001"), rounding=ROUND_UP)
        except InvalidOperation:
            pass  # parse_money says what is expected
    return parse_money(value)


Cost = Annotated[
    Decimal,
    BeforeValidator(_cost),
    PlainSerializer(format_money, return_type=str),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": MONEY_PATTERN}]}),
]
"""USD, as Money, but with any number of decimals: what is finer than a millionth is rounded up."""


def _percent(value: object) -> object:
    return int(value) if isinstance(value, float) and 0 <= value <= 100 else value


Percent = Annotated[
    int,
    BeforeValidator(_percent),
    Field(ge=0, le=100),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 100}),
]
"""0..100; decimals are dropped."""


class UsageSource(StrEnum):
    """Where a figure comes from, best first."""

    REPORTED = "Reported"  # measured by the agent or its provider
    PRICED = "Priced"  # reported tokens times a price table
    ESTIMATED = "Estimated"  # a guess, or more than this run alone
    UNKNOWN = "Unknown"  # nobody knows: the worst case is booked


class Message(Model):
    """Base of what agents send: no conversions, so that "5" is not 5."""

    model_config = ConfigDict(strict=True)


class HeartbeatMessage(Message):
    """A sign of life."""


SessionWord = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+=-]*$")
]
"""What a program calls a session of its own."""


class ProgressMessage(Message):
    """What the agent does."""

    message: str = Field(description="What is being done; kept up to 2,000 characters.")
    percent: Percent | None = Field(None, description="How far it is.")
    work_plan: str | None = Field(None, description="How it will be done; kept up to 100,000 characters.")
    session_id: SessionWord | None = Field(
        None, description="The program's own session: related work is told to go on with it."
    )


MAX_RETRY_AFTER_S = 7 * 86_400
OVERLOADED = (429, 503, 529)
"""Statuses with which a provider says: not now."""


class ProviderErrorMessage(Message):
    """The provider of the model refused, or failed under its load."""

    status: int = Field(ge=400, le=599, description="HTTP status; 429, 503 and 529 pause everybody who uses it.")
    retry_after_seconds: int | None = Field(
        None, ge=0, le=MAX_RETRY_AFTER_S, description="Its Retry-After in seconds; absent when it named none."
    )
    message: str = Field("", description="What it said; kept up to 2,000 characters.")


class UsageMessage(Message):
    """What was used since the last report; reports add up."""

    usd: Cost | None = Field(None, description="USD; absent when not known, which is not 0.")
    input_tokens: int | None = Field(None, ge=0, le=MAX_TOKENS, description="Input tokens, cached ones included.")
    output_tokens: int | None = Field(None, ge=0, le=MAX_TOKENS, description="Output tokens.")
    cache_read_tokens: int | None = Field(
        None, ge=0, le=MAX_TOKENS, description="Those of the input that were read from a cache."
    )
    cache_write_tokens: int | None = Field(
        None, ge=0, le=MAX_TOKENS, description="Those of the input that were written to one."
    )
    model: str | None = Field(None, description="Model that was used; kept up to 200 characters.")
    source: UsageSource = Field(
        UsageSource.REPORTED, description="Where the figures come from: Reported, Priced, Estimated or Unknown."
    )
    requests: int = Field(1, ge=0, le=10**6, description="Requests to the provider that the figures stand for.")
    provider_error: ProviderErrorMessage | None = Field(
        None, description="What the provider said, where it refused; the run may go on."
    )


class ContentMessage(Message):
    """Something handed in: exactly one of text and base64."""

    name: ArtifactName = Field(description="File name, unique within the run.")
    media_type: MediaType | None = Field(
        None, description="Content type; text/plain for text and application/octet-stream for base64 when absent."
    )
    text: str | None = Field(None, description="The content, when it is text.")
    base64: Base64 | None = Field(None, description="The content, when it is anything else.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.text is None) == (self.base64 is None):
            raise ValueError("give exactly one of text and base64")
        return self

    @property
    def content_type(self) -> str:
        """The media type, or its default."""
        return self.media_type or ("application/octet-stream" if self.text is None else "text/plain")

    @property
    def data(self) -> bytes:
        """The content, text as UTF-8."""
        if self.text is not None:
            return self.text.encode()
        return self.base64 or b""


class ToolResultMessage(Message):
    """A tool call that has ended."""

    tool: str = Field(min_length=1, max_length=200, description="Tool that was called.")
    args_digest: Digest | None = Field(None, description="Digest of its canonical arguments.")
    decision_id: str | None = Field(
        None, min_length=1, max_length=64, description="The decision that allowed it; ends its reservation."
    )
    call_key: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Key that the call was asked for with, where the decision is not known; without either, an open"
        " call of that tool and argsDigest is taken.",
    )
    usd: Cost | None = Field(None, description="What the call cost; absent: what was estimated is booked.")
    ok: bool = Field(description="Whether it succeeded.")
    error: str | None = Field(None, description="What it said when it failed.")
    output_digest: Digest | None = Field(None, description="Digest of its output.")
    duration_ms: int | None = Field(None, ge=0, le=10**10, description="How long it took.")


def _spoken(value: str) -> str:
    if not value.strip():
        raise ValueError("say how the deliverable was checked")
    return value


class CompleteMessage(Message):
    """The work is done."""

    deliverable: ContentMessage = Field(description="What was asked for.")
    self_review: Annotated[str, AfterValidator(_spoken)] = Field(
        description="The agent's own check of it; kept up to 20,000 characters."
    )
    evidence: tuple[ArtifactName, ...] = Field(
        (), max_length=MAX_EVIDENCE, description="Names of artifacts that prove what it claims."
    )
    usage: UsageMessage | None = Field(None, description="What was used and not reported before.")


class FailMessage(Message):
    """The work cannot be done."""

    reason: str = Field(min_length=1, description="CamelCase word; kept up to 100 characters.")
    message: str = Field("", description="For people; kept up to 2,000 characters.")
    retryable: bool = Field(True, description="Whether another attempt may help.")
    provider_error: ProviderErrorMessage | None = Field(
        None, description="Where that is why: what the provider said. Such an attempt costs none."
    )


SubAgentName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$")]
"""What a parent calls its sub-agent."""


class SayMessage(Message):
    """Something said in the session of the run."""

    text: str = Field(min_length=1, description="What is said; kept up to 10,000 characters.")
    to: Annotated[tuple[Subject, ...], Field(max_length=20)] = Field(
        (), description="Who is addressed: user:..., agent:<namespace>/<name>."
    )
    in_reply_to: str | None = Field(
        None, max_length=64, description="uid of the message that it answers, as the inbox names it."
    )
    thread: ThreadOf = Field(
        ThreadOf.MISSION, strict=False, description="Where it is said unless it answers: Mission, or its Project."
    )


class FollowUpMessage(Message):
    """Something that the agent wants to be told, or to have said, later. Canceled when a person speaks before."""

    after_s: int = Field(ge=1, le=MAX_FOLLOW_UP_S, description="How many seconds from now on.")
    text: str = Field(min_length=1, description="What is told or said then; kept up to 2,000 characters.")
    say: bool = Field(False, description="Whether it is said to people, within the limits; else the agent is told.")


CommandName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
"""Name of a command in chat, without the slash."""


class OfferedCommand(Message):
    """A command that the agent takes in chat."""

    name: CommandName = Field(description="Without the slash: lower-case letters, digits and '-'.")
    description: str = Field("", description="What it does; kept up to 200 characters.")


class CommandsMessage(Message):
    """Which commands the agent takes in chat; replaces what it said before."""

    commands: Annotated[tuple[OfferedCommand, ...], Field(max_length=20)] = Field(description="Each name once.")

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [command.name for command in self.commands]
        if len(set(names)) < len(names):
            raise ValueError("name each command once")
        return self


class SubAgentBudget(Message):
    """What a sub-agent may use; taken out of what its parent may."""

    usd: Cost | None = Field(None, description="USD; what one run of its level may use when absent.")
    tokens: int | None = Field(None, ge=0, le=MAX_TOKENS, description="Tokens, input and output together.")
    tool_calls: int | None = Field(None, ge=0, le=MAX_TOKENS, description="Tool calls.")


class SpawnMessage(Message):
    """Another agent is to do a part of the mission."""

    name: SubAgentName = Field(description="Names it within the run: lower-case letters, digits and '-'.")
    title: Line = Field(description="One line that says what is to be done.")
    description: str | None = Field(None, max_length=100_000, description="The task in full.")
    input: JsonObject = Field(default_factory=dict, description="Free JSON for the sub-agent.")
    autonomy_level: AutonomyLevel | None = Field(
        None, strict=False, description="At most that of its parent, which it is when absent."
    )
    tools: Annotated[tuple[ToolWord, ...], Field(max_length=1000)] | None = Field(
        None, description="Names and globs among those of its parent; all of them when absent."
    )
    budget: SubAgentBudget = Field(default_factory=SubAgentBudget, description="What it may use.")
    ttl_seconds: int | None = Field(None, ge=1, le=MAX_SECONDS, description="Longest life, within the declared limit.")
    hosted: bool = Field(
        False, description="Whether the program of this run does the work itself, with the key in the answer."
    )


class MissionBudget(Message):
    """What a mission may use in all; within what the mission that proposes it has left."""

    usd: Cost | None = Field(None, description="USD; what missions of its type may use when absent.")
    tokens: int | None = Field(None, ge=0, le=MAX_TOKENS, description="Tokens, input and output together.")


class ProposeMissionMessage(Message):
    """A mission that a person is asked to take."""

    name: SubAgentName = Field(description="Names it within the run: lower-case letters, digits and '-'.")
    title: Line = Field(description="One line that says what is to be done.")
    description: str | None = Field(None, max_length=100_000, description="The task in full.")
    type: MissionType = Field("Ops", description="Class of work.")
    input: JsonObject = Field(default_factory=dict, description="Free JSON for the agent.")
    agent: Name | None = Field(None, description="Agent that should do it; a person names one when absent.")
    for_goal: bool = Field(
        False, description="Whether it serves the Goal of this mission, which may let its type start by itself."
    )
    budget: MissionBudget = Field(default_factory=MissionBudget, description="What it may use.")
    reason: str = Field("", max_length=20_000, description="Why; kept up to 4,000 characters.")


class TerminateMessage(Message):
    """A sub-agent is to end."""

    sub_agent: SubAgentName = Field(description="What it is called.")
    reason: str = Field("", description="Why; kept up to 100 characters.")


class Receipt(Model):
    """A write was carried out, now or when its idempotency key was first seen. The same request gets the same one."""

    accepted: bool = Field(True, description="Always true: what is not accepted is answered with a problem.")
    run: str = Field(description="Name of the run.")


class ProposedMission(Model):
    """A mission that was proposed, and where it stands."""

    name: str = Field(description="Name of the Mission.")
    state: str = Field(description="Where it stands.")
    accepted: bool = Field(description="Whether it may be worked on; false while nobody took it, and when nobody did.")
    title: str = Field(description="What is to be done.")
    request: str | None = Field(None, description="ApprovalRequest that asks a person.")


class ProposedMissionReceipt(Receipt):
    """It waits for a person, or starts because its Goal lets it."""

    mission: ProposedMission = Field(description="It.")


class ProposedMissions(Model):
    """The missions that a run proposed."""

    items: tuple[ProposedMission, ...] = Field((), description="By name.")


class HeartbeatReceipt(Receipt):
    """A sign of life was seen."""

    cancel: bool = Field(description="Whether the run is to stop; the inbox says why.")


class ArtifactReceipt(Receipt):
    """An artifact is kept."""

    name: str = Field(description="Its name.")
    size: int = Field(description="Bytes.")
    digest: str = Field(description="sha256:<hex> of the content.")


class SubAgent(Model):
    """A sub-agent of the run."""

    name: str = Field(description="What it is called.")
    agent: str = Field(description="Name of its Agent.")
    mission: str = Field(description="Name of its mission.")
    state: str = Field(description="State of its mission.")
    hosted: bool = Field(description="Whether the program of this run does its work.")
    expires_at: Time = Field(description="It ends then at the latest.")
    ending: str = Field("", description="Why it is being ended.")
    deliverable: str | None = Field(None, description="What it handed in, where that is text and small.")


class SubAgents(Model):
    """The sub-agents of a run that have not been put away."""

    items: tuple[SubAgent, ...] = Field((), description="By name.")


class SpawnReceipt(Receipt):
    """A sub-agent was made."""

    sub_agent: SubAgent = Field(description="It.")
    hosted_run: str | None = Field(None, description="Of a hosted one: uid of its run, as in REMIT_RUN.")
    key: str | None = Field(None, description="Of a hosted one: the token of its run, as in REMIT_TOKEN.")


class SayReceipt(Receipt):
    """A message was taken, and what becomes of it."""

    message: str = Field(description="uid of the message.")
    state: MessageState = Field(description="Delivered, Pending (it goes out later) or Blocked (it never does).")
    reason: MessageReason = Field(description="Why: Delivered, Cooldown, HardCap, Held.")
    due_at: Time | None = Field(None, description="Pending: not before.")


class FollowUpReceipt(Receipt):
    """A follow-up was taken."""

    follow_up: str = Field(description="Names it within the session.")
    due_at: Time = Field(description="When it happens, unless a person speaks before.")


class NoticeType(StrEnum):
    """What the engine asks of a working agent."""

    CANCEL = "Cancel"  # stop now
    DRAIN = "Drain"  # finish this run; no other follows
    MESSAGE = "Message"  # a person said something
    COMMAND = "Command"  # a person gave a command in chat; what answers it goes back into the thread
    FOLLOW_UP = "FollowUp"  # what the agent asked to be told is due


class Notice(Model):
    """An item of the inbox. It stays there while it holds; ``id`` is stable, so that it can be told from news."""

    id: str = Field(description="Name it in the query parameter ack to leave it out of further answers.")
    type: NoticeType = Field(description="Cancel, Drain, Message, Command or FollowUp.")
    reason: str = Field(description="Why, for people.")
    since: Time = Field(description="Since when.")
    until: Time | None = Field(None, description="When it ends by itself, if it does.")
    author: str | None = Field(None, description="Of a Message: who said it.")
    text: str | None = Field(None, description="Of a Message: what was said. Its uid is what follows message/ in id.")
    command: str | None = Field(None, description="Of a Command: its name, without the slash.")
    arguments: str | None = Field(None, description="Of a Command: what follows the name.")
    thread: str | None = Field(None, description="Where it was said: mission/NAME or project/NAME.")
    cursor: int | None = Field(None, description="Of what was said or is due: its place in the order of the session.")


class Inbox(Model):
    """What the engine asks of the agent now."""

    items: tuple[Notice, ...] = Field((), description="Notices, the most urgent first.")
    cursor: int | None = Field(
        None, description="Name it in the query parameter cursor, once the items are kept: they do not come again."
    )
