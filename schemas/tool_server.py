"""ToolServer: an MCP server whose tools agents use through `remit mcp-proxy`, and which of its tools are accepted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from schemas.base import LINE_PATTERN, Bool, Int, JsonObject, Model, StatusModel, block_by_type, require_unique
from schemas.conditions import Conditions
from schemas.kind import Column, Disruption, KindInfo, ObjectClass
from schemas.policy import Risk
from schemas.quantities import Duration, PositiveDuration, Time
from schemas.secret import EnvVar, ValueFrom

MAX_TOOLS = 500
"""Most tools of one server. An agent that is shown more finds none of them."""
MAX_DEFINITIONS = 900 * 1024
"""Most bytes that the definitions of one server may have together, as canonical JSON."""
MAX_CALL = timedelta(hours=1)
MAX_WAIT = timedelta(minutes=10)

TOOL_PATTERN = r"^([A-Za-z0-9_.-]{1,128}|(prompt|resource|template)/[\x21-\x7e]{1,400})$"
PREFIX_PATTERN = r"^[\x20-\x7e]*$"
URL_PATTERN = r"^https?://[\x21-\x7e]+$"
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_URL = re.compile(
    r"(https?)://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9][A-Za-z0-9._-]*)(:[0-9]{1,5})?([/?][\x21\x22\x24-\x5b\x5d-\x7e]*)?"
)
_RESERVED_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "accept", "mcp-session-id",
     "mcp-protocol-version", "mcp-method", "mcp-name", "last-event-id"}
)  # fmt: skip

ToolName = Annotated[str, StringConstraints(pattern=TOOL_PATTERN)]
"""Name of a tool as its server gives it; under Remit it is ``mcp:<server>/<name>``. What is no tool is named
``prompt/<name>``, ``resource/<uri>`` and ``template/<uri template>``."""
DefinitionDigest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class ToolServerType(StrEnum):
    """How the server is reached."""

    STDIO = "Stdio"  # a program that the proxy starts
    HTTP = "Http"  # streamable HTTP


class Network(StrEnum):
    """Where an HTTP server may be. Link-local addresses, which hold the credentials of clouds, are never allowed."""

    PUBLIC = "Public"  # addresses of the internet only
    PRIVATE = "Private"  # addresses of private networks too
    LOOPBACK = "Loopback"  # addresses of the proxy's own machine only


class StdioServer(Model):
    """A program that speaks MCP on standard input and output. It gets a small fixed environment and what stands here:
    nothing of the proxy's own."""

    argv: tuple[Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=LINE_PATTERN)], ...] = Field(
        min_length=1, max_length=200, description="Program and arguments; there is no shell."
    )
    env: tuple[EnvVar, ...] = Field((), max_length=200, description="Variables, also from secrets.")
    workdir: str | None = Field(
        None, min_length=1, max_length=4096, pattern=LINE_PATTERN, description="Folder; that of the proxy when absent."
    )

    @model_validator(mode="after")
    def _unique(self) -> Self:
        require_unique((variable.name for variable in self.env), "variables")
        return self


def _header_name(value: str) -> str:
    if _HEADER.fullmatch(value) is None:
        raise ValueError("write the name of a header, such as Authorization")
    if value.lower() in _RESERVED_HEADERS:
        raise ValueError(f"the proxy sets {value} itself")
    return value


class Header(Model):
    """A header of every request: a plain value or a reference."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(_header_name)] = Field(
        description="Name of the header."
    )
    value: str | None = Field(None, max_length=8192, pattern=LINE_PATTERN, description="Plain value; never a secret.")
    value_from: ValueFrom | None = Field(None, description="Where the value is taken from.")
    prefix: str = Field(
        "", max_length=100, pattern=PREFIX_PATTERN, description="What stands before a referenced value: 'Bearer '."
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.value is None) == (self.value_from is None):
            raise ValueError("give exactly one of value and valueFrom")
        return self


def _server_url(value: str) -> str:
    parts = _URL.fullmatch(value)
    if parts is None or not 0 < int((parts[3] or ":443")[1:]) <= 65535:
        raise ValueError("write an address such as https://mcp.example.org/mcp, without user, password and fragment")
    return value


class HttpServer(Model):
    """A server that speaks streamable HTTP."""

    url: Annotated[
        str, StringConstraints(min_length=8, max_length=2048, pattern=URL_PATTERN),
        AfterValidator(_server_url),
    ] = Field(description="Address of its MCP endpoint.")  # fmt: skip
    headers: tuple[Header, ...] = Field((), max_length=50, description="Sent with every request.")
    network: Network = Field(Network.PUBLIC, description="Where it may be: Public, Private or Loopback.")

    @model_validator(mode="after")
    def _safe(self) -> Self:
        require_unique((header.name.lower() for header in self.headers), "headers")
        secret = any(header.value_from is not None for header in self.headers)
        if secret and self.url.startswith("http://") and self.network is not Network.LOOPBACK:
            raise ValueError("secrets would travel readable: use https://, or network: Loopback for this machine")
        return self


class Pin(Model):
    """One accepted tool, prompt or resource: its name, and the digest of the definition that somebody has read."""

    tool: ToolName = Field(
        description="Name of the tool at its server; prompt/NAME, resource/URI or template/URI for what is no tool."
    )
    digest: DefinitionDigest = Field(description="sha256:<hex> of its definition.")


class ToolServerSpec(Model):
    """An MCP server. Agents see, and can call, those of its tools whose definition is the accepted one."""

    model_config = block_by_type([(ToolServerType.STDIO, "stdio"), (ToolServerType.HTTP, "http")])

    description: str | None = Field(None, max_length=10_000, description="What it is.")
    type: ToolServerType = Field(description="Stdio or Http.")
    stdio: StdioServer | None = Field(None, description="For Stdio.")
    http: HttpServer | None = Field(None, description="For Http.")
    pins: tuple[Pin, ...] = Field(
        (),
        max_length=MAX_TOOLS,
        description="Accepted tools, prompts and resources; `remit pin` writes them. None: none.",
    )
    call_timeout: PositiveDuration = Field("60s", description="Longest time of one call.")  # type: ignore[assignment]
    approval_wait: Duration = Field(
        "45s",  # type: ignore[assignment]
        description="How long a call is held for a person's answer, where the client can be told in no other way.",
    )
    max_result_kilobytes: Int = Field(1024, ge=1, le=65_536, description="Largest result of a call, in KiB.")
    suspend: Bool = Field(False, description="Serve none of its tools while true.")

    @model_validator(mode="after")
    def _one_block(self) -> Self:
        wanted = {ToolServerType.STDIO: self.stdio, ToolServerType.HTTP: self.http}
        for kind, block in wanted.items():
            if (kind is self.type) != (block is not None):
                name = kind.lower()
                raise ValueError(f"type {self.type} {'needs' if kind is self.type else 'has no'} {name}")
        require_unique((pin.tool for pin in self.pins), "the tools of pins")
        if self.call_timeout > MAX_CALL:
            raise ValueError("callTimeout is at most 1h")
        if self.approval_wait > MAX_WAIT:
            raise ValueError("approvalWait is at most 10m")
        return self

    def references(self) -> Iterator[ValueFrom]:
        """The secrets that it names."""
        for variable in self.stdio.env if self.stdio is not None else ():
            if variable.value_from is not None:
                yield variable.value_from
        for header in self.http.headers if self.http is not None else ():
            if header.value_from is not None:
                yield header.value_from


class ToolState(StrEnum):
    """Whether agents may see and call a tool."""

    ACCEPTED = "Accepted"  # its definition is the pinned one
    NEW = "New"  # quarantined: nobody has accepted it
    CHANGED = "Changed"  # quarantined: its definition is not the one that was accepted
    GONE = "Gone"  # pinned, and its server offers it no more


class SeenTool(StatusModel):
    """One tool of the server, as a proxy saw it last."""

    name: str = Field(description="Name at its server.")
    digest: str = Field("", description="sha256:<hex> of its definition; empty when it is gone.")
    state: ToolState = Field(description="Accepted, New, Changed or Gone.")
    changed: tuple[str, ...] = Field((), description="What differs from the accepted definition, where that is known.")
    parts: dict[str, str] = Field(default_factory=dict, description="Digest of each field of the definition.")
    accepted_parts: dict[str, str] = Field(default_factory=dict, description="The same of the accepted definition.")
    definition: JsonObject = Field(
        default_factory=dict, description="The definition of a quarantined tool, redacted; empty when it is too large."
    )
    hinted_risk: Risk | None = Field(None, description="Risk that the server itself names.")
    first_seen: Time = Field(description="When this definition was first seen.")


class ToolServerReason(StrEnum):
    """Reasons of a ToolServer's conditions."""

    RECONCILED = "Reconciled"  # agents can use the accepted tools
    NOT_SEEN_YET = "NotSeenYet"  # no proxy has told what it offers
    ALL_PINNED = "AllPinned"  # every tool that it offers is accepted
    TOOLS_QUARANTINED = "ToolsQuarantined"  # tools are new or changed: not listed, and calls are refused
    NO_TOOLS = "NoTools"  # nothing of what it offers is accepted
    SUSPENDED = "Suspended"  # spec.suspend
    DELETING = "Deleting"  # deletionTimestamp is set


class ToolServerStatus(StatusModel):
    """What it offers."""

    conditions: Conditions = Field((), description="Ready and Pinned.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    tools: tuple[SeenTool, ...] = Field((), description="Its tools, by name.")
    accepted: int = Field(0, description="Tools that agents can use.")
    quarantined: int = Field(0, description="Tools that wait for a person.")
    last_seen: Time | None = Field(None, description="When the tools were last told to have changed.")
    seen_by: str = Field("", description="Run whose proxy told.")
    alerted: str = Field("", description="Digest of the quarantine that people were told of.")
    last_handled_reconcile: str | None = Field(None, description="Latest reconcile token acted on.")


KIND = KindInfo(
    kind="ToolServer",
    plural="toolservers",
    short_names=("ts",),
    object_class=ObjectClass.INTENT,
    spec=ToolServerSpec,
    status=ToolServerStatus,
    reasons=ToolServerReason,
    description="An MCP server whose tools agents use through the gate.",
    condition_types=("Ready", "Pinned"),
    columns=(
        Column("READY", "status.conditions[Ready].status"),
        Column("TYPE", "spec.type"),
        Column("ACCEPTED", "status.accepted", "integer"),
        Column("QUARANTINED", "status.quarantined", "integer"),
        Column("REASON", "status.conditions[Pinned].reason"),
        Column("URL", "spec.http.url", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
    disruption={"": Disruption.LIVE},
)
