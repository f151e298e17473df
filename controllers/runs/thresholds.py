"""The limits of autonomy that hold for an agent: of the Policies that apply to it the strictest, else what is built in.

Only the sections that speak of these limits are read, so that asking costs little beside what is asked for.
"""

from __future__ import annotations

from typing import Any

from decisions.loops import LoopLimits
from decisions.policy import strictest
from schemas.base import Key
from schemas.policy import AutonomyLimits, LoopDetection, PolicySpec, SpawnLimits
from schemas.resource import Resource
from store.contract import Snapshot


def policies_of(snapshot: Snapshot, agent: Resource) -> list[Resource]:
    """Policies that hold for an agent, by name: those of its namespace whose selector picks it, and those that its
    Tenant names for all of its agents. One that is being deleted holds until it is gone."""
    tenant = snapshot.get(Key("Tenant", "", agent.namespace))
    named = set()
    if tenant is not None:
        refs = tenant.spec.get("defaults", {}).get("policyRefs", ())
        named = {(str(ref.get("namespace") or tenant.name), str(ref["name"])) for ref in refs}
    found = []
    for policy in snapshot.objects("Policy"):
        wanted = policy.spec.get("selector", {}).get("matchLabels", {})
        mine = policy.namespace == agent.namespace and all(
            agent.labels.get(name) == value for name, value in wanted.items()
        )
        if mine or (policy.namespace, policy.name) in named:
            found.append(policy)
    return found


def loop_limits(snapshot: Snapshot, agent: Resource | None) -> LoopLimits:
    """What counts as a loop for this agent; the built-in numbers where it is gone."""
    if agent is None:
        return LoopLimits()
    sections = _sections(snapshot, agent, "loopDetection")
    if not sections:
        return LoopLimits()
    specs = [(policy, PolicySpec(loop_detection=LoopDetection.model_validate(s))) for policy, s in sections]
    limits = strictest.loop_detection([spec for _, spec in specs])
    sources = []
    for name in LoopDetection.model_fields:
        setter = next(p for p, s in specs if getattr(s.loop_detection, name) == getattr(limits, name))
        sources.append((name, _place(setter)))
    return LoopLimits(limits, tuple(sources))


def autonomy(snapshot: Snapshot, agent: Resource) -> AutonomyLimits:
    """How far a session of this agent goes by itself."""
    sections = _sections(snapshot, agent, "autonomy")
    return strictest.autonomy([PolicySpec(autonomy=AutonomyLimits.model_validate(s)) for _, s in sections])


def spawn(snapshot: Snapshot, agent: Resource) -> SpawnLimits:
    """What Policies let this agent spawn; ``Agent.spec.subAgents`` narrows it further."""
    sections = _sections(snapshot, agent, "spawn")
    return strictest.spawn([PolicySpec(spawn=SpawnLimits.model_validate(s)) for _, s in sections])


def _sections(snapshot: Snapshot, agent: Resource, name: str) -> list[tuple[Resource, dict[str, Any]]]:
    return [(p, p.spec[name]) for p in policies_of(snapshot, agent) if p.spec.get(name) is not None]


def _place(policy: Resource) -> str:
    short = policy.key.short
    return f"{short} ({policy.provenance.place})" if policy.provenance is not None else short
