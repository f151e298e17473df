"""May this agent make this call? The order in which things speak, and what each of them says.

Holds, the agent's tools, limits and budgets, hard stops, rules, waivers, the table with the allowlists. The first that
denies ends the asking. One that asks for approval is kept: what comes after may be stricter and never looser.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from decisions.policy import commands, globs, hard_stops, shell
from decisions.policy.compiled import CompiledRule, PolicySet, Profile
from decisions.policy.expressions import Evaluation, View
from decisions.policy.facts import RISK_ORDER, STRICTNESS, AgentFacts, Barrier, Call, Circumstances, Finding, Ruling
from decisions.policy.touched import Facet, Touch, touches
from schemas.agent import AutonomyLevel
from schemas.hold import HoldMode
from schemas.policy import VERDICT_BY_LEVEL, HardStop, Risk, Verdict
from schemas.tool_call import ToolCallReason

TABLE = "the built-in table"
ALLOWED_BY_TABLE = {
    (level, risk): Finding(
        Verdict.ALLOW, ToolCallReason.ALLOWED, TABLE, f"{risk} is within what an agent of level {level} does alone"
    )
    for level in AutonomyLevel
    for risk in Risk
}


def decide(call: Call, agent: AgentFacts, policies: PolicySet, around: Circumstances) -> Ruling:
    """The ruling on one call. Pure: the same facts give the same ruling. Raises nothing for what the call holds."""
    profile = policies.profile(call.tool)
    if profile is None:
        return Ruling(Verdict.DENY, Risk.RED, (_no_name(call.tool),), policies.names)
    risk = profile.risk
    if call.hinted_risk is not None and RISK_ORDER[call.hinted_risk] > RISK_ORDER[risk]:
        risk = call.hinted_risk
    asks: list[Finding] = []
    found = _barred(call, agent, profile, around)
    if found is None:
        if around.limit is not None:
            found = _taken(_barrier(around.limit, ToolCallReason.LIMIT, "an autonomy limit"), asks)
        if found is None and around.budget is not None:
            found = _taken(_barrier(around.budget, ToolCallReason.OVER_BUDGET, "a budget"), asks)
        touched = touches(call)
        if found is None:
            found = _stopped(call, profile, touched, policies)
        if found is None:
            found = _judged(call, agent, profile, risk, touched, policies, around)
    if found.verdict is Verdict.DENY or not asks:
        findings = (found, *asks)
    elif found.verdict is Verdict.ALLOW:
        findings = tuple(asks)
    else:
        findings = (*asks, found)
    return Ruling(findings[0].verdict, risk, findings, policies.names)


def _no_name(tool: str) -> Finding:
    name = tool[:80].encode("ascii", "backslashreplace").decode()
    return Finding(
        Verdict.DENY,
        ToolCallReason.NOT_GRANTED,
        "the form of tool names",
        f"'{name}' is not the name of a tool",
        remedy="call it by the name that the agent's spec.tools gives",
    )


def _taken(finding: Finding, asks: list[Finding]) -> Finding | None:
    """Denials are returned; a wish for approval is kept."""
    if finding.verdict is Verdict.DENY:
        return finding
    if finding.verdict is Verdict.REQUIRE_APPROVAL:
        asks.append(finding)
    return None


def _barrier(barrier: Barrier, reason: ToolCallReason, name: str) -> Finding:
    return Finding(
        barrier.verdict,
        reason,
        barrier.source or name,
        barrier.message,
        barrier.place,
        barrier.remedy or f"raise {name}",
    )


def _barred(call: Call, agent: AgentFacts, profile: Profile, around: Circumstances) -> Finding | None:
    held = around.held
    if held is not None and (held.mode is HoldMode.STOP or held.tenant):
        return Finding(
            Verdict.DENY,
            ToolCallReason.HELD,
            held.hold.short,
            f"stopped by {held.placed_by}: {held.reason}",
            remedy=held.remedy or f"remit release {held.hold.short}",
        )
    granted = profile.ready.get(agent.tools)
    if granted is None:
        granted = any(globs.matches_name(pattern, call.tool) for pattern in agent.tools)
        if len(profile.ready) < 1000:
            profile.ready[agent.tools] = granted
    if granted:
        return None
    return Finding(
        Verdict.DENY,
        ToolCallReason.NOT_GRANTED,
        f"the tools of {agent.key.short}",
        f"{agent.key.short} is not given {call.tool}",
        f"{agent.place} spec.tools" if agent.place else "spec.tools",
        f"add {{name: {call.tool}}} to spec.tools of {agent.key.short}",
    )


def _stopped(call: Call, profile: Profile, touched: tuple[Touch, ...], policies: PolicySet) -> Finding | None:
    if profile.stops:
        return _hard_stop(profile.stops[0], f"the tool {call.tool}", policies)
    if touched:
        for stop, what in hard_stops.by_content(touched, policies.recipients):
            if stop in policies.hard_stops:
                return _hard_stop(stop, what, policies)
    return None


def _hard_stop(stop: HardStop, what: str, policies: PolicySet) -> Finding:
    owners = [p for p in policies.policies if stop in p.document.spec.hard_stops]
    remedy = f"take {stop} out of spec.hardStops of {', '.join(p.name for p in owners)}" if owners else (
        f"a Policy for the agent whose spec.hardStops leaves {stop} out"
    )  # fmt: skip
    if stop is HardStop.EMAIL_OUTSIDE_ALLOWLIST:
        remedy = f"put the recipient on allowlists.emailRecipients, or {remedy}"
    return Finding(
        Verdict.DENY,
        ToolCallReason.HARD_STOP,
        f"the hard stop {stop}",
        f"{stop}: {what}",
        policies.stop_place(stop),
        remedy,
        tuple(p.document.key for p in owners),
    )


def _judged(
    call: Call,
    agent: AgentFacts,
    profile: Profile,
    risk: Risk,
    touched: tuple[Touch, ...],
    policies: PolicySet,
    around: Circumstances,
) -> Finding:
    """What rules, waivers and the table say."""
    evaluation: Evaluation | None = None
    for rule in profile.rules:
        if rule.condition is None:
            return rule.finding
        if evaluation is None:
            evaluation = Evaluation(View(call, agent, around))
        holds = rule.condition.holds(evaluation)
        if holds is True:
            return rule.finding
        if holds is not False and rule.verdict is not Verdict.ALLOW:
            return _failed(rule, holds)
    table = _table(call, agent, profile, risk, touched, policies)
    if table.verdict is Verdict.ALLOW:
        return table
    for waiver in profile.waivers:
        if waiver.expires is not None and around.now >= waiver.expires:
            continue
        if waiver.condition is not None:
            if evaluation is None:
                evaluation = Evaluation(View(call, agent, around))
            if waiver.condition.holds(evaluation) is not True:
                continue
        if STRICTNESS[waiver.verdict] < STRICTNESS[table.verdict]:
            return waiver.finding
        break
    return table


def _failed(rule: CompiledRule, why: str) -> Finding:
    return Finding(
        rule.verdict,
        ToolCallReason.RULE,
        rule.source,
        f"{rule.source} cannot be evaluated, and counts as matching: {why}",
        rule.place,
        f"make the expression of {rule.source} hold for this call: has(...) asks whether a field is there",
        rule.finding.owners,
    )


def _table(
    call: Call, agent: AgentFacts, profile: Profile, risk: Risk, touched: tuple[Touch, ...], policies: PolicySet
) -> Finding:
    level = agent.level
    if VERDICT_BY_LEVEL[level][risk] is not Verdict.ALLOW:
        known = profile.asked.get((level, risk))
        if known is None:
            known = profile.asked[level, risk] = _too_risky(call.tool, level, risk, profile)
        return known
    allowed = ALLOWED_BY_TABLE[level, risk]
    if not touched:
        return allowed
    outside, vouchers = _outside(touched, level, risk, policies)
    if outside is not None or not vouchers:
        return outside or allowed
    return replace(allowed, message=f"{allowed.message}; {', '.join(vouchers)}")


def _too_risky(tool: str, level: AutonomyLevel, risk: Risk, profile: Profile) -> Finding:
    source = "" if risk is profile.risk else ", as its server says"
    lower = "a lower risk in spec.risk of a Policy" if risk is Risk.RED else "a higher autonomyLevel"
    return Finding(
        VERDICT_BY_LEVEL[level][risk],
        ToolCallReason.RISK,
        TABLE,
        f"{tool} is {risk}{source}, and an agent of level {level} asks before that",
        profile.risk_place,
        f"an approval; a rule that allows it; a Waiver; {lower}",
        profile.risk_owners if risk is profile.risk else (),
    )


def _outside(
    touched: tuple[Touch, ...], level: AutonomyLevel, risk: Risk, policies: PolicySet
) -> tuple[Finding | None, dict[str, None]]:
    """The first thing that the call touches and no list vouches for; else what vouched, in order. A Specialist's Yellow
    needs a list; Green, and a Lead, are held by the lists that some Policy declares. Network and mail are held by their
    lists whatever the level, and nothing leads out of the workspace."""
    vouchers: dict[str, None] = {}
    needs_list = risk is Risk.YELLOW and level is not AutonomyLevel.LEAD
    for touch in touched:
        declared = _declared(touch.facet, policies)
        if not (needs_list or declared or touch.facet in (Facet.NETWORK, Facet.EMAIL)):
            why = _beyond(touch)
            if why:
                return _not_listed(touch, why), {}
            continue
        entry, why = _listed(touch, policies)
        if not entry:
            return _not_listed(touch, why), {}
        vouchers[f"'{entry}' is on allowlists.{touch.facet}"] = None
    return None, vouchers


def _declared(facet: Facet, policies: PolicySet) -> bool:
    if facet is Facet.SHELL:
        return policies.declares_shell
    return bool({Facet.NETWORK: policies.network, Facet.READ: policies.read, Facet.WRITE: policies.write}.get(facet))


def _beyond(touch: Touch) -> str:
    """Why a person is asked even where no list is declared; "" where that is not needed."""
    value = touch.value
    if touch.facet is Facet.SHELL:
        found = shell.programs(value) if isinstance(value, str) else None
        opaque = found is None or any(commands.runs_others(program) for program in found)
        return "what it would run cannot be told" if opaque else ""
    if not isinstance(value, str):
        return _UNTOLD
    return "" if globs.clean_path(value) is not None else f"{_shown(value)} does not stay below the workspace"


_UNTOLD = "the call does not say what it touches in a form that a list knows"


def _listed(touch: Touch, policies: PolicySet) -> tuple[str, str]:
    """(entry that vouches for it, ""), or ("", why none does)."""
    value = touch.value
    if touch.facet is Facet.EMAIL:
        return _recipients_listed(value, policies.recipients)
    if not isinstance(value, str):
        return "", _UNTOLD
    if touch.facet is Facet.SHELL:
        return command_listed(value, (entry for _, entry in policies.shell))
    if touch.facet is Facet.NETWORK:
        entry = globs.matches_host(policies.network, value)
    elif globs.clean_path(value) is None:
        return "", f"{_shown(value)} does not stay below the workspace"
    else:
        entry = globs.matches_path(policies.read if touch.facet is Facet.READ else policies.write, value)
    return (entry, "") if entry is not None else ("", f"{_shown(value)} is on no list")


def _recipients_listed(value: object, patterns: tuple[str, ...]) -> tuple[str, str]:
    addresses = globs.recipients_of(value)
    if addresses is None:
        return "", "recipients that are not plain addresses"
    entries: dict[str, None] = {}
    for address in addresses:
        entry = globs.matches_recipient(patterns, address)
        if entry is None:
            return "", f"{_shown(address)} is on no list"
        entries[entry] = None
    return ", ".join(entries), ""


def command_listed(command: str, entries: Iterable[commands.CommandEntry]) -> tuple[str, str]:
    """(entry of ``allowlists.shell`` that vouches for a command, ""), or ("", why none does)."""
    try:
        words = shell.one_command(command)
    except shell.Refused as error:
        return "", f"it is or holds {error}: ask for one plain command at a time"
    for entry in entries:
        if commands.matches(entry, words):
            return entry.text, ""
    return "", f"{_shown(' '.join(words))} is on no list"


def _not_listed(touch: Touch, why: str) -> Finding:
    return Finding(
        Verdict.REQUIRE_APPROVAL,
        ToolCallReason.RISK,
        f"allowlists.{touch.facet}",
        f"not on allowlists.{touch.facet}: {why}",
        "",
        f"an approval; an entry in allowlists.{touch.facet} of a Policy for the agent; a Waiver",
    )


def _shown(text: str) -> str:
    """Agent text for a message: one line, visible, cut."""
    short = text if len(text) <= 80 else text[:79] + "…"
    return "'" + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in short) + "'"
