"""Policy: what agents may do. Rules, allowlists, approvals and limits; the built-in table holds beneath all of them."""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from schemas.agent import AutonomyLevel
from schemas.approval_request import OnTimeout
from schemas.base import Bool, Int, LabelSelector, Model, StatusModel, Subject, require_unique
from schemas.conditions import Conditions
from schemas.kind import Column, Disruption, KindInfo, ObjectClass
from schemas.quantities import Duration, PositiveDuration
from schemas.tenant import Role


class Risk(StrEnum):
    """How much harm a tool can do."""

    GREEN = "Green"  # internal and reversible
    YELLOW = "Yellow"  # potentially harmful
    RED = "Red"  # has an effect outside


class Verdict(StrEnum):
    """What becomes of a tool call."""

    ALLOW = "Allow"  # it goes ahead
    DENY = "Deny"  # it does not, and the agent is told why
    REQUIRE_APPROVAL = "RequireApproval"  # a person is asked first


class HardStop(StrEnum):
    """What no rule of autonomy opens: it is refused or asked about whatever the risk table says."""

    PAYMENTS = "Payments"  # money is moved or promised
    EMAIL_OUTSIDE_ALLOWLIST = "EmailOutsideAllowlist"  # mail to a recipient that allowlists.emailRecipients lacks
    DESTRUCTIVE_ACCOUNT_ACTION = "DestructiveAccountAction"  # accounts, systems or data are destroyed or locked
    PUBLIC_POSTING = "PublicPosting"  # something is published


class Redaction(StrEnum):
    """How much of texts and arguments is masked before it is kept or shown."""

    OFF = "Off"  # nothing but the values of declared secrets
    STANDARD = "Standard"  # known forms of keys and tokens too
    STRICT = "Strict"  # addresses, numbers of accounts and other personal data too


DEFAULT_RISK = MappingProxyType(
    {
        "read_db": Risk.GREEN,
        "post_comment": Risk.GREEN,
        "create_doc": Risk.GREEN,
        "read_file": Risk.GREEN,
        "web_search": Risk.GREEN,
        "shell_exec": Risk.YELLOW,
        "git_commit": Risk.YELLOW,
        "git_push": Risk.YELLOW,
        "network_call": Risk.YELLOW,
        "write_file": Risk.YELLOW,
        "install_deps": Risk.YELLOW,
        "send_email": Risk.RED,
        "post_social": Risk.RED,
        "deploy_prod": Risk.RED,
        "access_secrets": Risk.RED,
        "destructive_shell": Risk.RED,
    }
)
"""Risk of the tools that Remit knows, where no Policy says otherwise."""
UNKNOWN_TOOL_RISK = Risk.RED
"""Risk of every other tool."""
VERDICT_BY_LEVEL = MappingProxyType(
    {
        AutonomyLevel.INTERN: MappingProxyType(
            {Risk.GREEN: Verdict.ALLOW, Risk.YELLOW: Verdict.REQUIRE_APPROVAL, Risk.RED: Verdict.REQUIRE_APPROVAL}
        ),
        AutonomyLevel.SPECIALIST: MappingProxyType(
            {Risk.GREEN: Verdict.ALLOW, Risk.YELLOW: Verdict.ALLOW, Risk.RED: Verdict.REQUIRE_APPROVAL}
        ),
        AutonomyLevel.LEAD: MappingProxyType(
            {Risk.GREEN: Verdict.ALLOW, Risk.YELLOW: Verdict.ALLOW, Risk.RED: Verdict.REQUIRE_APPROVAL}
        ),
    }
)
"""The built-in table. A Specialist's Yellow holds within allowlists and budget only; that is checked apart from it."""

MAX_EXPRESSION = 2000
"""Longest CEL expression, in characters: evaluation has no cost limit of its own."""

ToolPattern = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_.:/@*?\[\]!-]+$")]
"""A tool name; ``*``, ``?`` and ``[...]`` match as in file names. Tools of MCP servers are ``mcp:<server>/<tool>``."""
RuleName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Expression = Annotated[str, StringConstraints(min_length=1, max_length=MAX_EXPRESSION, strip_whitespace=True)]
"""CEL over tool, args, agent, mission, spend and time; true means that it matches."""


class Match(Model):
    """Which tool calls: those that meet every given part."""

    tools: tuple[ToolPattern, ...] = Field((), max_length=1000, description="Tool names or globs; any of them.")
    when: Expression | None = Field(
        None,
        description="CEL expression over tool, args, agent, mission, spend and time that must be true; one that cannot "
        "be evaluated counts as true for Deny and RequireApproval and as false for Allow.",
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.tools and self.when is None:
            raise ValueError("name tools or a when expression; every tool is tools: ['*']")
        return self


class Rule(Model):
    """One rule. Of all that match, the most restrictive counts, and it replaces the built-in table."""

    name: RuleName = Field(description="Names the rule in decisions and the audit log.")
    match: Match = Field(description="Which tool calls.")
    verdict: Verdict = Field(description="Allow, Deny or RequireApproval.")
    reason: str | None = Field(None, max_length=2000, description="Why; told to the agent and to approvers.")


_HOST = re.compile(r"(\*|(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?)(:[0-9]{1,5})?")
_RECIPIENT = re.compile(r"(\*|[^\s@*]+)@[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


def _host(value: str) -> str:
    text = value.lower()
    if _HOST.fullmatch(text) is not None:
        return text
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValueError(
            "write a host such as api.example.org, *.example.org or host:443, or a network such as 10.0.0.0/8, "
            "without a scheme or path"
        ) from None


def _glob(value: str) -> str:
    if ".." in value.split("/"):
        raise ValueError("a path has no '..' in it")
    return value


def _recipient(value: str) -> str:
    text = value.lower()
    if _RECIPIENT.fullmatch(text) is None:
        raise ValueError("write an address such as ann@example.org, or *@example.org for everybody there")
    return text


def _in_order(value: tuple[HardStop, ...]) -> tuple[HardStop, ...]:
    require_unique(value, "hardStops")
    return tuple(stop for stop in HardStop if stop in value)


_Text = StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")
_Word = StringConstraints(min_length=1, max_length=320, pattern=r"^[^\s\x00-\x1f\x7f]+$")
CommandPattern = Annotated[str, _Text]
HostPattern = Annotated[str, _Word, AfterValidator(_host)]
PathPattern = Annotated[str, _Text, AfterValidator(_glob)]
Recipient = Annotated[str, _Word, AfterValidator(_recipient)]


class FilesystemAllowlist(Model):
    """Files and folders."""

    read: tuple[PathPattern, ...] = Field((), max_length=1000, description="Globs that may be read.")
    write: tuple[PathPattern, ...] = Field((), max_length=1000, description="Globs that may be written.")


class Allowlists(Model):
    """What may be done within the risk table. What is on no list of any Policy of the agent needs approval."""

    shell: tuple[CommandPattern, ...] = Field(
        (), max_length=1000, description="Commands, word by word; * at the end: any words but options that act."
    )
    network: tuple[HostPattern, ...] = Field(
        (), max_length=1000, description="Hosts: name, *.name, name:port, address or network."
    )
    filesystem: FilesystemAllowlist = Field(
        default_factory=FilesystemAllowlist, description="Files and folders, relative to the workspace."
    )
    email_recipients: tuple[Recipient, ...] = Field(
        (), max_length=10_000, description="Mail addresses, or *@domain for everybody there."
    )


class Approvers(Model):
    """Who may answer: anybody with one of the roles, or named."""

    roles: tuple[Role, ...] = Field((Role.APPROVER,), max_length=4, description="Roles in the tenant.")
    subjects: tuple[Subject, ...] = Field((), max_length=1000, description="Named people, such as user:alice.")

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.roles and not self.subjects:
            raise ValueError("name roles or subjects: nobody could ever answer")
        return self


class Approvals(Model):
    """How people are asked."""

    timeout: PositiveDuration = Field("111h", description="No answer counts after this.")  # type: ignore[assignment]
    remind_after: PositiveDuration | None = Field(
        None, description="When people are reminded once; half of timeout when absent."
    )
    on_timeout: OnTimeout = Field(OnTimeout.PARK, description="Without an answer: Park or Deny; it is never granted.")
    approvers: Approvers = Field(default_factory=Approvers, description="Who may answer.")
    quorum: Int = Field(1, ge=1, le=20, description="Answers needed.")
    separation_of_duties: Bool = Field(
        True, description="Whether the requester, and the author of what is asked about, are refused as approvers."
    )

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.remind_after is not None and self.remind_after >= self.timeout:
            raise ValueError("remindAfter must be shorter than timeout")
        if not self.approvers.roles and self.quorum > len(set(self.approvers.subjects)):
            raise ValueError("quorum asks for more answers than approvers.subjects names people")
        return self


class AutonomyLimits(Model):
    """How far a session goes by itself."""

    max_consecutive: Int = Field(
        3, ge=0, le=1000, description="Messages in a row without one from a person; 0 is none."
    )
    cooldown: Duration = Field("15s", description="Pause between two of them.")  # type: ignore[assignment]


class LoopDetection(Model):
    """What counts as going around in circles. More than the number contains the mission."""

    messages_per_30_min: Int = Field(
        20, ge=0, le=100_000, alias="messagesPer30Min", description="Messages on a mission in 30 minutes."
    )
    review_cycles: Int = Field(3, ge=0, le=1000, description="Times a mission goes to review.")
    ping_pong_per_10_min: Int = Field(
        8, ge=0, le=10_000, alias="pingPongPer10Min", description="Turns of the same pair in 10 minutes."
    )
    same_error_retries: Int = Field(3, ge=0, le=1000, description="Failures of a tool with the same signature.")
    same_output_repeats: Int = Field(
        5, ge=0, le=1000, description="Calls of a tool with the same arguments and the same output."
    )
    no_progress_runs: Int = Field(3, ge=0, le=1000, description="Runs in a row that leave the state unchanged.")
    self_wakes_per_30_min: Int = Field(
        5, ge=0, le=10_000, alias="selfWakesPer30Min", description="Times that an agent wakes itself in 30 minutes."
    )
    spend_slope_factor: Int = Field(
        8, ge=1, le=1_000_000, description="Times as fast as before that money goes, with nothing new for it."
    )


class SpawnLimits(Model):
    """Sub-agents, whatever Agent.spec.subAgents asks for; an Intern may not spawn at all."""

    max_active: Int = Field(30, ge=0, le=100_000, description="Alive at a time.")
    max_per_parent: Int = Field(3, ge=0, le=1000, description="Alive at a time below one agent.")
    max_depth: Int = Field(2, ge=0, le=10, description="Generations below a declared agent.")
    ttl: PositiveDuration = Field("6h", description="Longest life of one.")  # type: ignore[assignment]


class PolicySpec(Model):
    """What agents may do.

    Several Policies may apply to an agent. Sections that a Policy leaves out say nothing: the others hold, or the
    built-in values where none speaks. Where several speak, the strictest holds.
    """

    description: str | None = Field(None, max_length=10_000, description="What it is for.")
    selector: LabelSelector = Field(
        default_factory=LabelSelector, description="Agents it holds for; empty for all of the namespace."
    )
    risk: dict[ToolPattern, Risk] = Field(
        default_factory=dict, description="Green, Yellow or Red by tool, in place of the built-in risk."
    )
    rules: tuple[Rule, ...] = Field((), max_length=1000, description="Rules; of all that match the strictest counts.")
    allowlists: Allowlists = Field(default_factory=Allowlists, description="What may be done within the risk table.")
    hard_stops: Annotated[tuple[HardStop, ...], AfterValidator(_in_order)] = Field(
        tuple(HardStop), description="Hard stops in force; a list replaces the default, which is all."
    )
    approvals: Approvals | None = Field(None, description="How people are asked.")
    autonomy: AutonomyLimits | None = Field(None, description="How far a session goes by itself.")
    loop_detection: LoopDetection | None = Field(None, description="What counts as going around in circles.")
    spawn: SpawnLimits | None = Field(None, description="Limits of sub-agents.")
    redaction: Redaction = Field(Redaction.STANDARD, description="Off, Standard or Strict.")

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        require_unique((rule.name for rule in self.rules), "the names of rules")
        return self


DEFAULT_APPROVALS = Approvals()
DEFAULT_AUTONOMY = AutonomyLimits()
DEFAULT_LOOP_DETECTION = LoopDetection()
DEFAULT_SPAWN = SpawnLimits()


class PolicyReason(StrEnum):
    """Reasons of a Policy's conditions."""

    RECONCILED = "Reconciled"  # it is in force
    EXPRESSION_INVALID = "ExpressionInvalid"  # an expression or entry does not compile; it opens nothing
    MATCHES_NOBODY = "MatchesNobody"  # it is in force, and selector picks no agent yet
    IN_USE = "InUse"  # deletion waits: a Tenant or Waiver refers to it
    WIDENING_PENDING = "WideningPending"  # its deletion or loosening waits for `remit confirm`; it stays in force
    DELETING = "Deleting"  # deletionTimestamp is set


class PolicyStatus(StatusModel):
    """Whom it holds for."""

    conditions: Conditions = Field((), description="Ready.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    agents: int = Field(0, description="Agents that selector picks.")
    denied: int = Field(0, description="Calls that a rule or hard stop of it refused, ever.")
    asked: int = Field(0, description="Calls that a rule of it, or a risk that it gives, sent to a person, ever.")
    allowed: int = Field(0, description="Calls that a rule of it allowed, ever.")
    counted_to: int = Field(0, description="Number of the latest event that these counts include.")
    last_handled_reconcile: str | None = Field(None, description="Latest reconcile token acted on.")


KIND = KindInfo(
    kind="Policy",
    plural="policies",
    short_names=("pol",),
    object_class=ObjectClass.INTENT,
    spec=PolicySpec,
    status=PolicyStatus,
    reasons=PolicyReason,
    description="What agents may do.",
    guardrail=True,
    columns=(
        Column("READY", "status.conditions[Ready].status"),
        Column("AGENTS", "status.agents", "integer"),
        Column("DENIED", "status.denied", "integer"),
        Column("ASKED", "status.asked", "integer"),
        Column("ALLOWED", "status.allowed", "integer", wide=True),
        Column("REDACTION", "spec.redaction"),
        Column("REASON", "status.conditions[Ready].reason", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
    disruption={"": Disruption.LIVE},
)
