"""Short ways to facts and policies for tests of rulings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from decisions.holds import Held
from decisions.policy import compiled, decide
from decisions.policy.facts import AgentFacts, Call, Circumstances, Ruling
from schemas.agent import AutonomyLevel
from schemas.base import Key
from schemas.hold import HoldMode
from schemas.policy import PolicySpec
from schemas.waiver import WaiverSpec

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)


def policy(name: str = "house-rules", **spec: Any) -> compiled.CompiledPolicy:
    """A compiled Policy; ``spec`` in the words of the YAML."""
    key = Key("Policy", "default", name)
    return compiled.compile_policy(compiled.Document(key, PolicySpec.model_validate(spec), f"policies/{name}.yaml:3"))


def waiver(name: str = "morning-job", **spec: Any) -> compiled.CompiledWaiver:
    """A compiled Waiver until the end of the year, by the docs team."""
    values = {"owner": "docs team", "reason": "nobody is up", "expires": "2026-12-31T00:00:00Z", **spec}
    key = Key("Waiver", "default", name)
    return compiled.compile_waiver(
        compiled.WaiverDocument(key, WaiverSpec.model_validate(values), f"waivers/{name}.yaml:1")
    )


def agent(
    level: str = "Specialist", tools: tuple[str, ...] = ("*",), labels: Mapping[str, str] | None = None
) -> AgentFacts:
    """An agent that is given ``tools``."""
    return AgentFacts(
        Key("Agent", "default", "worker"), AutonomyLevel(level), tools, labels or {}, "agents/worker.yaml:1"
    )


def held(mode: str) -> Held:
    """A Hold of the given mode."""
    return Held(Key("Hold", "default", "stop-all"), HoldMode(mode), "wrong target", "user:alice", NOW, None)


def ask(
    tool: str,
    args: Mapping[str, Any] | None = None,
    *,
    by: AgentFacts | None = None,
    policies: tuple[compiled.CompiledPolicy, ...] = (),
    waivers: tuple[compiled.CompiledWaiver, ...] = (),
    around: Circumstances | None = None,
    **call: Any,
) -> Ruling:
    """The ruling on one call."""
    given = compiled.PolicySet(policies, waivers)
    return decide.decide(Call(tool, args or {}, **call), by or agent(), given, around or Circumstances(NOW))
