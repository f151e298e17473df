"""Recorded calls against a proposed tree of specs: what would be decided otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from controllers.sources import collector
from decisions.policy.compiled import PolicySet
from decisions.policy.decide import decide
from decisions.policy.facts import AgentFacts, Call, Circumstances, MissionFacts
from decisions.policy.fleet import Fleet, Member
from schemas.base import Key
from schemas.policy import Risk, Verdict
from schemas.resource import Declared, Resource
from store.contract import Snapshot

KINDS = ("Agent", "Policy", "Tenant", "Waiver")


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """Calls that would be decided otherwise, all alike. ``after`` is None where the agent is declared no more."""

    agent: str
    tool: str
    before: Verdict | None
    after: Verdict | None
    rule: str


@dataclass(slots=True)
class Replay:
    """What came out. ``looked_at`` counts the calls, ``changes`` those that would be decided otherwise."""

    looked_at: int = 0
    changes: Counter[Change] = field(default_factory=Counter)
    examples: dict[Change, str] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        """Calls that would be decided otherwise."""
        return self.changes.total()

    def becoming(self, after: Verdict | None) -> int:
        """Calls that would now be decided like that."""
        return sum(count for change, count in self.changes.items() if change.after is after)


def of_declared(declared: Iterable[Declared]) -> Iterator[Member]:
    """Objects of compiled files."""
    for item in declared:
        if item.kind in KINDS:
            place = item.provenance.place if item.provenance is not None else ""
            yield item.key, item.spec, item.labels, place


def of_store(snapshot: Snapshot) -> Iterator[Member]:
    """What is in force now. A Waiver that is being deleted is not."""
    for kind in KINDS:
        for item in snapshot.objects(kind):
            if kind == "Waiver" and item.deletion_at is not None:
                continue
            yield item.key, item.spec, item.labels, item.provenance.place if item.provenance is not None else ""


def replay(snapshot: Snapshot, proposed: Fleet, since: datetime) -> Replay:
    """Decide every call recorded since then by the Policies in force and by the proposed ones. Holds, limits and
    budgets are left out on both sides: only the rules are compared. Arguments are those that were kept, redacted."""
    with collector.paused():
        return _replay(snapshot, Fleet(of_store(snapshot)), proposed, since)


def _replay(snapshot: Snapshot, current: Fleet, proposed: Fleet, since: datetime) -> Replay:
    missions: dict[Key, MissionFacts | None] = {}
    sides: dict[Key, tuple[_Side, _Side] | None] = {}
    found = Replay()
    for call in snapshot.objects("ToolCall"):
        if call.created_at < since:
            continue
        found.looked_at += 1
        spec = call.spec
        key = _key("Agent", spec["agentRef"], call.namespace)
        if key not in sides:
            alike = current.decides_alike(proposed, key)
            sides[key] = None if alike else (_side(current, key), _side(proposed, key))
        both = sides[key]
        if both is None:
            continue
        asked = Call(str(spec["tool"]), spec.get("args", {}), str(spec.get("target", "")), _hint(call))
        around = Circumstances(call.created_at, _mission(snapshot, missions, call))
        before, _ = _verdict(both[0], key, asked, around)
        after, rule = _verdict(both[1], key, asked, around)
        if before is after:
            continue
        change = Change(key.short, asked.tool, before, after, rule)
        found.changes[change] += 1
        found.examples.setdefault(change, call.key.short)
    return found


_Side = tuple[AgentFacts, PolicySet] | None
"""An agent and what holds for it; None where it is not declared."""


def _side(fleet: Fleet, key: Key) -> _Side:
    agent = fleet.agent(key)
    return None if agent is None else (agent, fleet.rules_for(agent))


def _verdict(side: _Side, key: Key, call: Call, around: Circumstances) -> tuple[Verdict | None, str]:
    if side is None:
        return None, f"{key.short} is not declared"
    ruling = decide(call, *side, around)
    return ruling.verdict, ruling.decisive.rule


def _key(kind: str, ref: dict[str, str], namespace: str) -> Key:
    return Key(kind, ref.get("namespace") or namespace, ref["name"])


def _hint(call: Resource) -> Risk | None:
    hint = call.spec.get("hintedRisk")
    return Risk(hint) if hint is not None else None


def _mission(snapshot: Snapshot, known: dict[Key, MissionFacts | None], call: Resource) -> MissionFacts | None:
    key = _key("Mission", call.spec["missionRef"], call.namespace)
    if key not in known:
        found = snapshot.get(key)
        known[key] = None if found is None else _facts(found)
    return known[key]


def _facts(mission: Resource) -> MissionFacts:
    spec = mission.spec
    project = (spec.get("projectRef") or {}).get("name", "")
    return MissionFacts(
        mission.key, str(spec.get("type", "")), project, int(spec.get("priority", 50)), dict(mission.labels)
    )
