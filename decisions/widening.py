"""Which edits loosen a limit. A widening is shown on top of every plan, and may have to wait for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from decisions import widening_policies, widening_tools
from decisions.widening_words import flat, looser_duration, looser_number, more

_LEVELS = {"Intern": 0, "Specialist": 1, "Lead": 2}
_BREACH = {"Warn": 4, "Throttle": 3, "RequireApproval": 2, "BlockMission": 1, "PauseAgent": 0}
_REVIEWS = {"Human": 0, "Auto": 1, "None": 2}
_PRUNES = {"Confirm": 0, "Never": 0, "Guarded": 1}

LIMITS = frozenset({"Policy", "Budget", "Hold", "Tenant"})
"""Kinds whose deletion loosens something, whatever they say: a Tenant says who may approve, and what holds for all of
its agents."""


def widenings(kind: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[str]:
    """What gets looser between two canonical specs of one object, each in a few words; ``old`` None is a new object,
    ``new`` None a deletion."""
    if new is None:
        return [f"the {kind} goes away"] if kind in LIMITS else []
    check = _CHECKS.get(kind)
    return check(old, new) if check is not None else []


def relabelled(kind: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """What gets looser when an object changes its labels: Policies, Budgets and Holds pick by them. A label that is
    added only makes it picked by more."""
    if kind not in ("Agent", "Mission"):
        return []
    gone = sorted(name for name, value in old.items() if new.get(name) != value)
    return [f"labels: {', '.join(gone)}: what picked it by them may hold it no more"] if gone else []


def narrowings(kind: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[str]:
    """What gets tighter: the widenings of the way back, worded as such."""
    if old is None or new is None:
        return []
    return [f"tightened: {text}" for text in widenings(kind, new, old)]


def _limits(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> list[str]:
    found = [
        f"{where}.{name}: {old[name]} -> {new.get(name, 'no limit')}"
        for name in ("usd", "tokens", "toolCalls")
        if looser_number(old.get(name), new.get(name))
    ]
    if looser_duration(old.get("wallTime"), new.get("wallTime")):
        found.append(f"{where}.wallTime: {old['wallTime']} -> {new.get('wallTime', 'no limit')}")
    return found


def _tool(grant: Mapping[str, Any]) -> str:
    if "name" in grant:
        return str(grant["name"])
    mcp = grant.get("mcp", {})
    names = ",".join(mcp.get("toolNames", ())) or "*"
    return f"mcp:{mcp.get('serverRef', {}).get('name', '')}/{names}"


def _proposable(spec: Mapping[str, Any]) -> set[str]:
    return {
        f"{'new ' if rule.get('create') else ''}{rule['kind']} {name}: {field}"
        for rule in spec.get("proposals", {}).get("allow", ())
        for name in rule["names"]
        for field in rule["fields"]
    }


def _mission_proposals(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[str]:
    """What an agent may propose as missions now, and could not before."""
    if new is None:
        return []
    if old is None:
        return ["proposals.missions: may propose missions"]
    found = []
    if old.get("types") and not new.get("types"):
        found.append("proposals.missions.types: all types")
    elif old.get("types"):
        more_types = sorted(set(new.get("types", ())) - set(old["types"]))
        found += [f"proposals.missions.types: {', '.join(more_types)}"] if more_types else []
    agents = sorted(set(new.get("agents", ())) - set(old.get("agents", ())))
    found += [f"proposals.missions.agents: {', '.join(agents)}"] if agents else []
    return found + [
        f"proposals.missions.{name}: {old.get(name)} -> {new.get(name)}"
        for name in ("maxOpen", "maxPerDay")
        if looser_number(old.get(name), new.get(name))
    ]


def _agent(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    if old is None:
        return []
    found = []
    if more(_LEVELS, old.get("autonomyLevel"), new.get("autonomyLevel")):
        found.append(f"autonomyLevel: {old.get('autonomyLevel')} -> {new.get('autonomyLevel')}")
    added = sorted({_tool(t) for t in new.get("tools", ())} - {_tool(t) for t in old.get("tools", ())})
    if added:
        found.append("tools added: " + ", ".join(added))
    if new.get("identityMode") == "OperatorProxy" != old.get("identityMode"):
        found.append("identityMode: acts in its operator's name")
    asks = sorted(_proposable(new) - _proposable(old))
    if asks:
        found.append("proposals grow: " + ", ".join(asks[:10]))
    found += _mission_proposals(old.get("proposals", {}).get("missions"), new.get("proposals", {}).get("missions"))
    before, after = old.get("subAgents", {}), new.get("subAgents", {})
    if after.get("allowed") and not before.get("allowed"):
        found.append("subAgents.allowed: may spawn")
    found += [
        f"subAgents.{name}: {before.get(name)} -> {after.get(name)}"
        for name in ("max", "maxDepth")
        if after.get("allowed") and looser_number(before.get(name), after.get(name))
    ]
    return found


def _budget(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    if old is None:
        return []
    found = _limits(old.get("limits", {}), new.get("limits", {}), "limits")
    if more(_BREACH, old.get("onBreach"), new.get("onBreach")):
        found.append(f"onBreach: {old.get('onBreach')} -> {new.get('onBreach')}")
    if old.get("scope") != new.get("scope"):
        found.append("scope changed: what it covered before may be free of it")
    if old.get("window") != new.get("window"):
        found.append(f"window: {old.get('window')} -> {new.get('window')}")
    return found


def _mission(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    if old is None:
        return []
    found = _limits(old.get("budget", {}), new.get("budget", {}), "budget")
    if more(_REVIEWS, old.get("review"), new.get("review")):
        found.append(f"review: {old.get('review')} -> {new.get('review')}")
    return found


def _tenant(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    """Who may answer, and what holds for all of its agents."""
    if old is None:
        return []
    found = _members(old, new)
    before, after = old.get("defaults", {}), new.get("defaults", {})
    gone = sorted(flat(before.get("policyRefs", ())) - flat(after.get("policyRefs", ())))
    if gone:
        found.append("defaults.policyRefs: hold for all of its agents no more: " + ", ".join(gone[:10]))
    if before.get("budgetRef") and before["budgetRef"] != after.get("budgetRef"):
        found.append(f"defaults.budgetRef: {before['budgetRef']['name']} holds for the rest no more")
    if not before.get("builtInBudgets", True) and after.get("builtInBudgets", True):
        found.append("defaults.builtInBudgets: work that no Budget covers is not refused any more")
    a, b = old.get("limits", {}), new.get("limits", {})
    found += [f"limits.{name}: {a[name]} -> {b.get(name)}" for name in sorted(a) if looser_number(a[name], b.get(name))]
    if old.get("lifecycle", "Active") != "Active" and new.get("lifecycle", "Active") == "Active":
        found.append(f"lifecycle: {old['lifecycle']} -> Active")
    return found


def _members(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """A tenant that names nobody tells nobody apart."""
    before, after = _named(old), _named(new)
    if before is None:
        return []
    if after is None:
        return ["members: nobody is named any more, so whoever is proven may approve"]
    added = sorted(after - before)
    return [f"members: may approve from now on: {', '.join(added[:10])}"] if added else []


def _named(tenant: Mapping[str, Any]) -> set[str] | None:
    """Those who may approve; None where nobody is named at all."""
    people, groups = tenant.get("members", ()), tenant.get("groups", ())
    if not people and not groups:
        return None
    answers = ("Approver", "Admin")
    return {str(m["subject"]) for m in people if m["role"] in answers} | {
        f"group {g['claim']}" for g in groups if g["role"] in answers
    }


def _waiver(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    if old is None:
        return [f"a waiver until {new.get('expires')}: {new.get('reason', '')}"[:200]]
    return ["the waiver changes"] if old != new else []


_MODES = {"Hold": 2, "Drain": 1, "Stop": 0}


def _hold(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    if old is None:
        return []
    found = []
    if more(_MODES, old.get("mode"), new.get("mode")):
        found.append(f"mode: {old.get('mode')} -> {new.get('mode')}")
    if (old.get("scope"), old.get("selector")) != (new.get("scope"), new.get("selector")) and new.get(
        "scope"
    ) != "Global":
        found.append("what it holds changed: some of it may be free")
    if new.get("until") and (not old.get("until") or new["until"] < old["until"]):
        found.append(f"until: {old.get('until', 'for ever')} -> {new['until']}")
    if old.get("quarantine") and not new.get("quarantine"):
        found.append("quarantine: switched off")
    before, after = old.get("released", {}), new.get("released", {})
    for name in ("tenants", "agents"):
        added = sorted(flat(after.get(name, ())) - flat(before.get(name, ())))
        found += [f"released.{name} grow: {', '.join(added[:10])}"] if added else []
    if int(after.get("percent", 0)) > int(before.get("percent", 0)):
        found.append(f"released.percent: {before.get('percent', 0)} -> {after['percent']}")
    return found


def _executor(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    if old is None:
        return []
    before, after = old.get("sandbox", {}), new.get("sandbox", {})
    was, is_ = (spec.get("command", {}).get("hook") for spec in (old, new))
    found = [f"command.hook: {was} -> {is_ or 'none'}"] if was and was != is_ else []
    return found + [
        f"sandbox.{name} grows: {', '.join(sorted(set(after.get(name, ())) - set(before.get(name, ()))))}"
        for name in ("readPaths", "writePaths")
        if set(after.get(name, ())) - set(before.get(name, ()))
    ]


def _source(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    """Whose commits are applied, and which of them wait."""
    if old is None:
        return []
    found = []
    before, after = old.get("verify"), new.get("verify")
    if before is not None and before != after:
        found.append("verify: switched off" if after is None else "verify changed: others may be trusted")
    if old.get("widening") == "Confirm" != new.get("widening"):
        found.append("widening: Confirm -> Apply")
    if more(_PRUNES, old.get("prune"), new.get("prune")):
        found.append(f"prune: {old.get('prune')} -> {new.get('prune')}")
    gone = sorted(set(old.get("quarantine", ())) - set(new.get("quarantine", ())))
    if gone:
        found.append("quarantine: may be applied again: " + ", ".join(gone[:10]))
    return found


_CHECKS = {
    "Agent": _agent,
    "Budget": _budget,
    "Mission": _mission,
    "Policy": widening_policies.widenings,
    "Tenant": _tenant,
    "ToolServer": widening_tools.widenings,
    "Waiver": _waiver,
    "Executor": _executor,
    "Hold": _hold,
    "Source": _source,
}
