"""Policies and Waivers, compiled once per revision, and what they say together of one agent, indexed by tool."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from decisions.policy import commands, globs, hard_stops, strictest
from decisions.policy.expressions import Condition, compile_expression
from decisions.policy.facts import RISK_ORDER, STRICTNESS, Finding
from schemas.agent import AutonomyLevel
from schemas.base import Key
from schemas.policy import (
    DEFAULT_RISK,
    UNKNOWN_TOOL_RISK,
    HardStop,
    Match,
    PolicySpec,
    Risk,
    Verdict,
)
from schemas.tool_call import ToolCallReason
from schemas.waiver import WaiverSpec

TOOL_NAME = re.compile(r"[A-Za-z0-9_.:/@-]{1,200}")
_PROFILES = 10_000
"""Tools whose profile is kept: agents name them, and a hostile one could name any number."""


@dataclass(frozen=True, slots=True)
class Document:
    """One stored Policy. ``place`` is ``path:line``, "" when it was not declared in a file."""

    key: Key
    spec: PolicySpec
    place: str = ""


@dataclass(frozen=True, slots=True)
class WaiverDocument:
    """One stored Waiver that is not being deleted and not pending."""

    key: Key
    spec: WaiverSpec
    place: str = ""


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule or the match of a Waiver. ``condition`` None: it matches every call of its tools."""

    verdict: Verdict
    tools: tuple[str, ...]
    condition: Condition | None
    source: str
    place: str
    reason: str
    order: tuple[object, ...]
    finding: Finding
    expires: datetime | None = None

    def speaks_of(self, tool: str) -> bool:
        """Whether it is about this tool."""
        return not self.tools or any(globs.matches_name(pattern, tool) for pattern in self.tools)


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """One Policy of one revision. ``problems`` are expressions and entries that hold nothing, by field."""

    document: Document
    rules: tuple[CompiledRule, ...]
    shell: tuple[commands.CommandEntry, ...]
    exact_risk: Mapping[str, Risk]
    glob_risk: tuple[tuple[str, Risk], ...]
    problems: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """``policy/house-rules``."""
        return self.document.key.short

    def applies_to(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether its selector picks an agent."""
        return self.document.key.namespace == namespace and self.document.spec.selector.matches(dict(labels))

    def at(self, field: str) -> str:
        """``path:line spec.<field>``."""
        return f"{self.document.place} spec.{field}" if self.document.place else f"spec.{field}"

    def risk_of(self, tool: str) -> Risk | None:
        """What it says of a tool: by its exact name, else the highest of the globs that match."""
        exact = self.exact_risk.get(tool)
        if exact is not None:
            return exact
        found = [risk for pattern, risk in self.glob_risk if globs.matches_name(pattern, tool)]
        return max(found, key=RISK_ORDER.__getitem__) if found else None


def compile_policy(document: Document) -> CompiledPolicy:
    """Compile one Policy. Never raises: what is wrong holds nothing open, and stands in ``problems``."""
    spec = document.spec
    where = document.place
    problems: list[tuple[str, str]] = []
    rules = []
    for index, rule in enumerate(spec.rules):
        path = f"spec.rules[{index}]"
        source = f"rule {rule.name} of {document.key.short}"
        place = f"{where} {path}" if where else path
        compiled = _rule(rule.match, rule.verdict, source, place, rule.reason or "", document.key, index)
        if compiled.condition is not None and compiled.condition.problem:
            problems.append((f"{path}.match.when", compiled.condition.problem))
        rules.append(compiled)
    shell = []
    for index, text in enumerate(spec.allowlists.shell):
        try:
            shell.append(commands.compile_entry(text))
        except commands.BadEntry as error:
            problems.append((f"spec.allowlists.shell[{index}]", str(error)))
    exact = {tool: risk for tool, risk in spec.risk.items() if not globs.is_glob(tool)}
    patterns = tuple(sorted((tool, risk) for tool, risk in spec.risk.items() if globs.is_glob(tool)))
    return CompiledPolicy(document, tuple(rules), tuple(shell), exact, patterns, tuple(problems))


def _rule(match: Match, verdict: Verdict, source: str, place: str, reason: str, owner: Key, index: int) -> CompiledRule:
    condition = compile_expression(match.when) if match.when is not None else None
    message = f"{source} matches" + (f": {reason}" if reason else "")
    remedy = "" if verdict is Verdict.ALLOW else f"change {source}, or what the call asks for"
    finding = Finding(verdict, ToolCallReason.RULE, source, message, place, remedy, (owner,))
    return CompiledRule(verdict, match.tools, condition, source, place, reason, (str(owner), index), finding)


@dataclass(frozen=True, slots=True)
class CompiledWaiver:
    """One Waiver of one revision."""

    document: WaiverDocument
    rule: CompiledRule

    def applies_to(self, namespace: str, labels: Mapping[str, str], policies: frozenset[Key]) -> bool:
        """Whether it speaks of an agent: by its selector, and its Policy, where it names one, is in force there."""
        key, spec = self.document.key, self.document.spec
        if key.namespace != namespace or not spec.selector.matches(dict(labels)):
            return False
        return spec.policy_ref is None or spec.policy_ref.key("Policy", key.namespace) in policies


def compile_waiver(document: WaiverDocument) -> CompiledWaiver:
    """Compile one Waiver. Never raises; one that is wrong never matches."""
    spec = document.spec
    source = document.key.short
    rule = _rule(spec.match, spec.verdict, source, document.place, spec.reason, document.key, 0)
    message = f"{source} of {spec.owner} excepts it: {spec.reason}"
    finding = replace(rule.finding, reason=ToolCallReason.ALLOWED, message=message)
    return CompiledWaiver(
        document,
        CompiledRule(
            rule.verdict, rule.tools, rule.condition, source, rule.place, rule.reason, rule.order, finding, spec.expires
        ),
    )


@dataclass(slots=True)
class Profile:
    """What is known of a tool before its arguments are seen. ``rules`` and ``waivers``: the strictest first."""

    risk: Risk
    risk_source: str
    risk_place: str
    rules: tuple[CompiledRule, ...]
    waivers: tuple[CompiledRule, ...]
    stops: tuple[HardStop, ...]
    risk_owners: tuple[Key, ...] = ()
    """The Policy that gave the risk."""
    ready: dict[tuple[str, ...], bool] = field(default_factory=dict)
    """Whether an agent with these tools is granted this one."""
    asked: dict[tuple[AutonomyLevel, Risk], Finding] = field(default_factory=dict)
    """What the table says where it asks."""


class PolicySet:
    """What holds for one agent: Policies and Waivers in force, combined. The order in which they are given does not
    matter. Build it once for each revision and agent; asking changes nothing but a cache of tools."""

    def __init__(self, policies: Iterable[CompiledPolicy] = (), waivers: Iterable[CompiledWaiver] = ()) -> None:
        self.policies = tuple(sorted(policies, key=lambda p: p.document.key))
        self.names = tuple(p.name for p in self.policies)
        self._rules = sorted((rule for p in self.policies for rule in p.rules), key=_strictest_first)
        excepting = tuple(waivers)
        self.waivers = tuple(w.document for w in excepting)
        self._waivers = sorted((w.rule for w in excepting), key=_strictest_first)
        self._profiles: dict[str, Profile] = {}
        switched_on = {stop for p in self.policies for stop in p.document.spec.hard_stops}
        self.redaction = strictest.redaction(p.document.spec for p in self.policies)
        self.hard_stops = frozenset(switched_on) if self.policies else frozenset(HardStop)
        lists = [p.document.spec.allowlists for p in self.policies]
        self.shell = tuple((p, entry) for p in self.policies for entry in p.shell)
        self.declares_shell = any(item.shell for item in lists)
        self.network = _merged(item.network for item in lists)
        self.read = _merged(item.filesystem.read for item in lists)
        self.write = _merged(item.filesystem.write for item in lists)
        self.recipients = _merged(item.email_recipients for item in lists)

    def stop_place(self, stop: HardStop) -> str:
        """Where a hard stop is switched on; "" when it is built in only."""
        return next((p.at("hardStops") for p in self.policies if stop in p.document.spec.hard_stops), "")

    def profile(self, tool: str) -> Profile | None:
        """The profile of a tool; None for what cannot be the name of one."""
        known = self._profiles.get(tool)
        if known is None:
            if TOOL_NAME.fullmatch(tool) is None:
                return None
            known = self._make(tool)
            if len(self._profiles) >= _PROFILES:
                self._profiles.clear()
            self._profiles[tool] = known
        return known

    def _make(self, tool: str) -> Profile:
        said = [(p.risk_of(tool), p) for p in self.policies]
        spoken = [(risk, p) for risk, p in said if risk is not None]
        owners: tuple[Key, ...] = ()
        if spoken:
            risk, policy = max(spoken, key=lambda item: RISK_ORDER[item[0]])
            source, place, owners = policy.name, policy.at("risk"), (policy.document.key,)
        else:
            risk, source, place = DEFAULT_RISK.get(tool, UNKNOWN_TOOL_RISK), "the built-in table", ""
        return Profile(
            risk,
            source,
            place,
            tuple(rule for rule in self._rules if rule.speaks_of(tool)),
            tuple(rule for rule in self._waivers if rule.speaks_of(tool)),
            tuple(stop for stop in hard_stops.by_name(tool) if stop in self.hard_stops),
            owners,
        )


def _strictest_first(rule: CompiledRule) -> tuple[object, ...]:
    return (-STRICTNESS[rule.verdict], *rule.order)


def _merged(lists: Iterator[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted({entry for entries in lists for entry in entries}))


def in_force(
    policies: Iterable[CompiledPolicy],
    waivers: Iterable[CompiledWaiver],
    *,
    namespace: str,
    labels: Mapping[str, str],
    tenant_policies: Iterable[Key] = (),
) -> PolicySet:
    """What holds for an agent: Policies whose selector picks it, those that its tenant names for everybody, and the
    Waivers that except it."""
    named = frozenset(tenant_policies)
    chosen = [p for p in policies if p.document.key in named or p.applies_to(namespace, labels)]
    keys = frozenset(p.document.key for p in chosen)
    return PolicySet(chosen, [w for w in waivers if w.applies_to(namespace, labels, keys)])
