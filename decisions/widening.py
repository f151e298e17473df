"""Which edits loosen a limit. A widening is shown on top of every plan, and may have to wait for a person."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from schemas.quantities import parse_duration

_LEVELS = {"Intern": 0, "Specialist": 1, "Lead": 2}
_RISKS = {"Green": 0, "Yellow": 1, "Red": 2}
_VERDICTS = {"Deny": 0, "RequireApproval": 1, "Allow": 2}
_BREACH = {"Warn": 4, "Throttle": 3, "RequireApproval": 2, "BlockMission": 1, "PauseAgent": 0}
_REVIEWS = {"Human": 0, "Auto": 1, "None": 2}


def widenings(kind: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[str]:
    """What gets looser between two canonical specs of one object, each in a few words; ``old`` None is a new object,
    ``new`` None a deletion."""
    if new is None:
        return [f"the {kind} goes away"] if kind in ("Policy", "Budget", "Hold") else []
    check = _CHECKS.get(kind)
    return check(old, new) if check is not None else []


def narrowings(kind: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[str]:
    """What gets tighter: the widenings of the way back, worded as such."""
    if old is None or new is None:
        return []
    return [f"tightened: {text}" for text in widenings(kind, new, old)]


def _more(words: dict[str, int], old: Any, new: Any) -> bool:
    return words.get(str(new), 0) > words.get(str(old), 0)


def _looser_number(old: Any, new: Any) -> bool:
    """Whether a limit grew or went away."""
    if old is None:
        return False
    return new is None or Decimal(str(new)) > Decimal(str(old))


def _looser_duration(old: Any, new: Any) -> bool:
    if old is None:
        return False
    return new is None or parse_duration(new) > parse_duration(old)


def _limits(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> list[str]:
    found = [
        f"{where}.{name}: {old[name]} -> {new.get(name, 'no limit')}"
        for name in ("usd", "tokens", "toolCalls")
        if _looser_number(old.get(name), new.get(name))
    ]
    if _looser_duration(old.get("wallTime"), new.get("wallTime")):
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


def _agent(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    if old is None:
        return []
    found = []
    if _more(_LEVELS, old.get("autonomyLevel"), new.get("autonomyLevel")):
        found.append(f"autonomyLevel: {old.get('autonomyLevel')} -> {new.get('autonomyLevel')}")
    added = sorted({_tool(t) for t in new.get("tools", ())} - {_tool(t) for t in old.get("tools", ())})
    if added:
        found.append("tools added: " + ", ".join(added))
    if new.get("identityMode") == "OperatorProxy" != old.get("identityMode"):
        found.append("identityMode: acts in its operator's name")
    asks = sorted(_proposable(new) - _proposable(old))
    if asks:
        found.append("proposals grow: " + ", ".join(asks[:10]))
    before, after = old.get("subAgents", {}), new.get("subAgents", {})
    if after.get("allowed") and not before.get("allowed"):
        found.append("subAgents.allowed: may spawn")
    found += [
        f"subAgents.{name}: {before.get(name)} -> {after.get(name)}"
        for name in ("max", "maxDepth")
        if after.get("allowed") and _looser_number(before.get(name), after.get(name))
    ]
    return found


def _budget(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    if old is None:
        return []
    found = _limits(old.get("limits", {}), new.get("limits", {}), "limits")
    if _more(_BREACH, old.get("onBreach"), new.get("onBreach")):
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
    if _more(_REVIEWS, old.get("review"), new.get("review")):
        found.append(f"review: {old.get('review')} -> {new.get('review')}")
    return found


def _policy(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    found = [
        f"rule {rule.get('name')}: allows what the table would ask for"
        for rule in new.get("rules", ())
        if rule.get("verdict") == "Allow" and (old is None or rule not in old.get("rules", ()))
    ]
    if old is None:
        return found
    before = {rule.get("name"): rule for rule in old.get("rules", ())}
    after = {rule.get("name"): rule for rule in new.get("rules", ())}
    for name, rule in before.items():
        if rule.get("verdict") == "Allow":
            continue
        replacement = after.get(name)
        if replacement is None:
            found.append(f"rule {name} ({rule.get('verdict')}) goes away")
        elif _more(_VERDICTS, rule.get("verdict"), replacement.get("verdict")):
            found.append(f"rule {name}: {rule.get('verdict')} -> {replacement.get('verdict')}")
        elif rule.get("match") != replacement.get("match"):
            found.append(f"rule {name}: matches something else")
    old_risk, new_risk = old.get("risk", {}), new.get("risk", {})
    for tool in sorted({*old_risk, *new_risk}):
        # A tool without an entry falls back to the built-in table, where unknown tools are Red.
        if _RISKS.get(new_risk.get(tool, "Red"), 2) < _RISKS.get(old_risk.get(tool, "Red"), 2):
            found.append(f"risk.{tool}: {old_risk.get(tool, 'built-in')} -> {new_risk.get(tool, 'built-in')}")
    gone = sorted(set(old.get("hardStops", ())) - set(new.get("hardStops", ())))
    if gone:
        found.append("hardStops switched off: " + ", ".join(gone))
    added = sorted(_flat(new.get("allowlists", {})) - _flat(old.get("allowlists", {})))
    if added:
        found.append("allowlists grow: " + ", ".join(added[:10]))
    if old.get("selector") != new.get("selector"):
        found.append("selector changed: agents it held before may be free of it")
    found += _approvals(old.get("approvals", {}), new.get("approvals", {}))
    for part in ("loopDetection", "autonomy", "spawn"):
        a, b = old.get(part, {}), new.get(part, {})
        found += [
            f"{part}.{name}: {a[name]} -> {b.get(name)}"
            for name in sorted(a)
            if isinstance(a[name], int) and not isinstance(a[name], bool) and _looser_number(a[name], b.get(name))
        ]
    return found


def _approvals(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    found = []
    if int(new.get("quorum", 1)) < int(old.get("quorum", 1)):
        found.append(f"approvals.quorum: {old.get('quorum')} -> {new.get('quorum')}")
    if old.get("separationOfDuties", True) and not new.get("separationOfDuties", True):
        found.append("approvals.separationOfDuties: switched off")
    added = sorted(_flat(new.get("approvers", {})) - _flat(old.get("approvers", {})))
    if added:
        found.append("approvals.approvers grow: " + ", ".join(added))
    return found


def _tenant(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    """Who may answer. A tenant that names nobody tells nobody apart."""
    if old is None:
        return []
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
    if _more(_MODES, old.get("mode"), new.get("mode")):
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
        added = sorted(_flat(after.get(name, ())) - _flat(before.get(name, ())))
        found += [f"released.{name} grow: {', '.join(added[:10])}"] if added else []
    if int(after.get("percent", 0)) > int(before.get("percent", 0)):
        found.append(f"released.percent: {before.get('percent', 0)} -> {after['percent']}")
    return found


def _executor(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    if old is None:
        return []
    before, after = old.get("sandbox", {}), new.get("sandbox", {})
    return [
        f"sandbox.{name} grows: {', '.join(sorted(set(after.get(name, ())) - set(before.get(name, ()))))}"
        for name in ("readPaths", "writePaths")
        if set(after.get(name, ())) - set(before.get(name, ()))
    ]


def _flat(value: Any, prefix: str = "") -> set[str]:
    """Leaves of nested lists and maps as ``name:value`` texts."""
    if isinstance(value, Mapping):
        return {leaf for k, v in value.items() for leaf in _flat(v, f"{prefix}{k}:")}
    if isinstance(value, list | tuple):
        return {leaf for v in value for leaf in _flat(v, prefix)}
    return {f"{prefix}{value}"}


_CHECKS = {
    "Agent": _agent,
    "Budget": _budget,
    "Mission": _mission,
    "Policy": _policy,
    "Tenant": _tenant,
    "Waiver": _waiver,
    "Executor": _executor,
    "Hold": _hold,
}
