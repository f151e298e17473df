"""Which edits of a Policy loosen a limit. What it leaves out counts as what is built in, as it does in force; so a new
Policy is compared with that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from decisions.policy import globs
from decisions.widening_words import flat, looser_duration, looser_number, more
from schemas.policy import (
    DEFAULT_APPROVALS,
    DEFAULT_AUTONOMY,
    DEFAULT_LOOP_DETECTION,
    DEFAULT_RISK,
    DEFAULT_SPAWN,
    UNKNOWN_TOOL_RISK,
    HardStop,
)

_RISKS = {"Green": 0, "Yellow": 1, "Red": 2}
_VERDICTS = {"Deny": 0, "RequireApproval": 1, "Allow": 2}
_REDACTIONS = {"Strict": 0, "Standard": 1, "Off": 2}
_BUILT_IN = {
    "approvals": DEFAULT_APPROVALS.to_wire(),
    "autonomy": DEFAULT_AUTONOMY.to_wire(),
    "loopDetection": DEFAULT_LOOP_DETECTION.to_wire(),
    "spawn": DEFAULT_SPAWN.to_wire(),
}


def widenings(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    """Each in a few words; ``old`` None is a new Policy."""
    found = [
        f"rule {rule.get('name')}: allows what the table would ask for"
        for rule in new.get("rules", ())
        if rule.get("verdict") == "Allow" and (old is None or rule not in old.get("rules", ()))
    ]
    before = old if old is not None else {}
    found += _rules(before.get("rules", ()), new.get("rules", ()))
    found += _risks(before.get("risk", {}), new.get("risk", {}))
    gone = sorted(_stops(before) - _stops(new))
    if gone:
        found.append("hardStops switched off: " + ", ".join(gone))
    added = sorted(flat(new.get("allowlists", {})) - flat(before.get("allowlists", {})))
    if added:
        found.append("allowlists grow: " + ", ".join(added[:10]))
    if old is not None and old.get("selector") != new.get("selector"):
        found.append("selector changed: agents it held before may be free of it")
    found += _approvals(_section(before, "approvals"), _section(new, "approvals"))
    for name in ("loopDetection", "autonomy", "spawn"):
        found += _numbers(name, _section(before, name), _section(new, name))
    if more(_REDACTIONS, before.get("redaction", "Standard"), new.get("redaction", "Standard")):
        found.append(f"redaction: {before.get('redaction', 'Standard')} -> {new.get('redaction', 'Standard')}")
    return found


def _section(policy: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {**_BUILT_IN[name], **(policy.get(name) or {})}


def _stops(policy: Mapping[str, Any]) -> set[str]:
    return set(policy.get("hardStops", [stop.value for stop in HardStop]))


def _rules(old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]) -> list[str]:
    found = []
    after = {rule.get("name"): rule for rule in new}
    for rule in old:
        name, replacement = rule.get("name"), after.get(rule.get("name"))
        if rule.get("verdict") == "Allow":
            continue
        if replacement is None:
            found.append(f"rule {name} ({rule.get('verdict')}) goes away")
        elif more(_VERDICTS, rule.get("verdict"), replacement.get("verdict")):
            found.append(f"rule {name}: {rule.get('verdict')} -> {replacement.get('verdict')}")
        elif rule.get("match") != replacement.get("match"):
            found.append(f"rule {name}: matches something else")
    return found


def _risks(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """A tool without an entry has the risk of the globs that match it, else the built-in one."""
    found = []
    for tool in sorted({*old, *new, *DEFAULT_RISK}):
        before, after = _risk(old, tool), _risk(new, tool)
        if _RISKS[after] < _RISKS[before]:
            found.append(f"risk.{tool}: {before} -> {after}")
    return found


def _risk(risks: Mapping[str, str], tool: str) -> str:
    if tool in risks:
        return str(risks[tool])
    matching = [] if globs.is_glob(tool) else [
        str(risk) for pattern, risk in risks.items() if globs.is_glob(pattern) and globs.matches_name(pattern, tool)
    ]  # fmt: skip
    if matching:
        return max(matching, key=_RISKS.__getitem__)
    return DEFAULT_RISK.get(tool, UNKNOWN_TOOL_RISK).value


def _approvals(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    found = []
    if int(new["quorum"]) < int(old["quorum"]):
        found.append(f"approvals.quorum: {old['quorum']} -> {new['quorum']}")
    if old["separationOfDuties"] and not new["separationOfDuties"]:
        found.append("approvals.separationOfDuties: switched off")
    if looser_duration(old["timeout"], new["timeout"]):
        found.append(f"approvals.timeout: {old['timeout']} -> {new['timeout']}")
    added = sorted(flat(new["approvers"]) - flat(old["approvers"]))
    if added:
        found.append("approvals.approvers grow: " + ", ".join(added))
    return found


def _numbers(section: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Each number is a limit; so is each time, but a shorter pause is a looser one."""
    found = []
    for name in sorted(old):
        if isinstance(old[name], int):
            looser = looser_number(old[name], new[name])
        elif name == "cooldown":
            looser = looser_duration(new[name], old[name])
        else:
            looser = looser_duration(old[name], new[name])
        if looser:
            found.append(f"{section}.{name}: {old[name]} -> {new[name]}")
    return found
