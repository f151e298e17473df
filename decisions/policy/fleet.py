"""The agents, Policies and Waivers of a whole tree of specs, as rulings need them: for trials of what is proposed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from decisions.policy.compiled import (
    CompiledPolicy,
    CompiledWaiver,
    Document,
    PolicySet,
    WaiverDocument,
    compile_policy,
    compile_waiver,
    in_force,
)
from decisions.policy.facts import AgentFacts, tool_patterns
from schemas.agent import AgentSpec
from schemas.base import Key
from schemas.policy import PolicySpec
from schemas.tenant import TenantSpec
from schemas.waiver import WaiverSpec

Member = tuple[Key, Mapping[str, Any], Mapping[str, str], str]
"""(key, canonical spec, labels, place) of an object. The place is file:line, "" when nobody knows."""


class Fleet:
    """Built once from all objects of a tree; other kinds are passed over. Asking it changes nothing but a cache."""

    def __init__(self, members: Iterable[Member]) -> None:
        self._agents: dict[Key, AgentFacts] = {}
        self._policies: list[CompiledPolicy] = []
        self._waivers: list[CompiledWaiver] = []
        self._tenants: dict[str, tuple[Key, ...]] = {}
        self._sets: dict[tuple[str, frozenset[tuple[str, str]]], PolicySet] = {}
        for key, spec, labels, place in members:
            match key.kind:
                case "Agent":
                    self._agents[key] = _agent(key, AgentSpec.model_validate(spec), labels, place)
                case "Policy":
                    self._policies.append(compile_policy(Document(key, PolicySpec.model_validate(spec), place)))
                case "Waiver":
                    document = WaiverDocument(key, WaiverSpec.model_validate(spec), place)
                    self._waivers.append(compile_waiver(document))
                case "Tenant":
                    refs = TenantSpec.model_validate(spec).defaults.policy_refs
                    self._tenants[key.name] = tuple(ref.key("Policy", key.name) for ref in refs)

    @property
    def agents(self) -> list[Key]:
        """Every declared agent, sorted."""
        return sorted(self._agents)

    def agent(self, key: Key) -> AgentFacts | None:
        """What is declared of an agent; None when it is not."""
        return self._agents.get(key)

    def rules_for(self, agent: AgentFacts) -> PolicySet:
        """What holds for it. The agent need not be declared: namespace and labels decide."""
        key = (agent.key.namespace, frozenset(agent.labels.items()))
        known = self._sets.get(key)
        if known is None:
            known = self._sets[key] = in_force(
                self._policies,
                self._waivers,
                namespace=agent.key.namespace,
                labels=agent.labels,
                tenant_policies=self._tenants.get(agent.key.namespace, ()),
            )
        return known

    def decides_alike(self, other: Fleet, key: Key) -> bool:
        """Whether both decide every call of an agent alike because they hold the same of it, wherever it stands."""
        mine, theirs = self._agents.get(key), other._agents.get(key)
        if mine is None or theirs is None:
            return mine is theirs
        if replace(mine, place="") != replace(theirs, place=""):
            return False
        return _content(self.rules_for(mine)) == _content(other.rules_for(theirs))


def _content(rules: PolicySet) -> dict[Key, PolicySpec | WaiverSpec]:
    policies = {policy.document.key: policy.document.spec for policy in rules.policies}
    return {**policies, **{waiver.key: waiver.spec for waiver in rules.waivers}}


def _agent(key: Key, spec: AgentSpec, labels: Mapping[str, str], place: str) -> AgentFacts:
    return AgentFacts(key, spec.autonomy_level, tool_patterns(spec.tools), dict(labels), place)
