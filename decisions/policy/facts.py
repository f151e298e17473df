"""What a ruling rests on, and what it says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from decisions.holds import Held
from schemas.agent import AutonomyLevel, ToolGrant
from schemas.base import Key
from schemas.policy import Risk, Verdict
from schemas.tool_call import ToolCallReason

STRICTNESS = {Verdict.ALLOW: 0, Verdict.REQUIRE_APPROVAL: 1, Verdict.DENY: 2}
RISK_ORDER = {Risk.GREEN: 0, Risk.YELLOW: 1, Risk.RED: 2}


@dataclass(frozen=True, slots=True)
class Call:
    """What an agent wants to do. ``args`` is JSON as the agent sent it: hostile. ``target`` is what it says it acts on,
    believed only as far as it adds a check. ``hinted_risk`` comes from a tool server; it raises a risk, never lowers
    it."""

    tool: str
    args: Mapping[str, Any] = field(default_factory=dict)
    target: str = ""
    hinted_risk: Risk | None = None


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """Who asks. ``tools`` are the names and globs of Agent.spec.tools; none means no tool at all."""

    key: Key
    level: AutonomyLevel
    tools: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    place: str = ""


def tool_patterns(grants: Iterable[ToolGrant]) -> tuple[str, ...]:
    """``Agent.spec.tools`` as names and globs; tools of a server are ``mcp:<server>/<tool>``."""
    found: list[str] = []
    for grant in grants:
        if grant.name is not None:
            found.append(grant.name)
        elif grant.mcp is not None:
            names = grant.mcp.tool_names or ("*",)
            found += (f"mcp:{grant.mcp.server_ref.name}/{name}" for name in names)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class MissionFacts:
    """What it works on."""

    key: Key
    type: str = ""
    project: str = ""
    priority: int = 50
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Barrier:
    """What a budget or an autonomy limit says of the call, decided elsewhere: RequireApproval or Deny. ``source`` names
    the object, ``remedy`` what a person can do."""

    verdict: Verdict
    message: str
    source: str = ""
    place: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Everything else that counts. ``spend`` holds USD as floats under estimate, run, mission, today and remaining;
    what is not known is left out. ``now`` is aware. None: nothing of that sort stands in the way."""

    now: datetime
    mission: MissionFacts | None = None
    spend: Mapping[str, float] = field(default_factory=dict)
    held: Held | None = None
    limit: Barrier | None = None
    budget: Barrier | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that spoke. ``source`` names it for people, such as ``rule no-force-push of policy/house-rules``;
    ``place`` is file:line and field where it was declared, "" for what is built in; ``remedy`` is what would allow the
    call, "" where the verdict is Allow; ``owners`` are the Policies, or the Waiver, that it speaks for."""

    verdict: Verdict
    reason: ToolCallReason
    source: str
    message: str
    place: str = ""
    remedy: str = ""
    owners: tuple[Key, ...] = ()

    @property
    def rule(self) -> str:
        """Source and place in one line, as ToolCall.status.rule keeps it."""
        return f"{self.source} ({self.place})" if self.place else self.source


@dataclass(frozen=True, slots=True)
class Ruling:
    """The answer to "may I?". ``findings`` is never empty: the one that decided comes first, then what else spoke
    against the call, in the order of asking. ``policies`` names every Policy that was asked, sorted."""

    verdict: Verdict
    risk: Risk
    findings: tuple[Finding, ...]
    policies: tuple[str, ...] = ()

    @property
    def decisive(self) -> Finding:
        """What decided."""
        return self.findings[0]

    def explain(self) -> str:
        """Several lines for people: verdict, what decided and where it stands, what would allow it, what else spoke."""
        first = self.decisive
        lines = [f"{self.verdict}: {first.message}", f"  decided by  {first.source}"]
        if first.place:
            lines.append(f"  declared at {first.place}")
        lines.append(f"  risk        {self.risk}")
        if first.remedy:
            lines.append(f"  to allow    {first.remedy}")
        for other in self.findings[1:]:
            lines.append(f"  also        {other.verdict}: {other.message} [{other.rule}]")
            if other.remedy:
                lines.append(f"              {other.remedy}")
        if self.policies:
            lines.append(f"  asked       {', '.join(self.policies)}")
        return "\n".join(lines)
