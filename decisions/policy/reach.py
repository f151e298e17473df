"""Which tools are worth showing to an agent: those of which some call could be allowed."""

from __future__ import annotations

from decisions.policy import globs
from decisions.policy.compiled import PolicySet
from decisions.policy.facts import AgentFacts
from schemas.policy import Verdict


def may_ever(tool: str, agent: AgentFacts, policies: PolicySet) -> bool:
    """Whether some call of the tool could be allowed, if only by a person. Not so where the agent's tools do not list
    it, where its name runs into a hard stop, or where a rule denies every call. Budgets, Holds and limits pass: they
    say nothing of a tool."""
    profile = policies.profile(tool)
    if profile is None or profile.stops:
        return False
    if any(rule.verdict is Verdict.DENY and rule.condition is None for rule in profile.rules):
        return False
    return any(globs.matches_name(pattern, tool) for pattern in agent.tools)


def knows_server(server: str, agent: AgentFacts) -> bool:
    """Whether the agent's tools list anything of an MCP server."""
    return any(globs.matches_name(pattern.partition("/")[0], f"mcp:{server}") for pattern in agent.tools)
