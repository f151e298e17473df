"""Which edits loosen a limit: each rule once in both directions."""

from __future__ import annotations

from typing import Any

import pytest

from decisions.widening import LIMITS, narrowings, relabelled, widenings
from schemas import registry
from schemas.policy import PolicySpec

CASES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("Budget", {"limits": {"usd": "2"}}, {"limits": {"usd": "20"}}, "limits.usd: 2 -> 20"),
    ("Budget", {"limits": {"usd": "2"}}, {"limits": {}}, "limits.usd: 2 -> no limit"),
    ("Budget", {"limits": {"wallTime": "1h"}}, {"limits": {"wallTime": "2h"}}, "limits.wallTime: 1h -> 2h"),
    ("Budget", {"onBreach": "PauseAgent"}, {"onBreach": "Warn"}, "onBreach: PauseAgent -> Warn"),
    ("Agent", {"autonomyLevel": "Intern"}, {"autonomyLevel": "Lead"}, "autonomyLevel: Intern -> Lead"),
    ("Agent", {"tools": []}, {"tools": [{"name": "shell_exec"}]}, "tools added: shell_exec"),
    ("Agent", {"subAgents": {"allowed": False}}, {"subAgents": {"allowed": True}}, "subAgents.allowed: may spawn"),
    ("Mission", {"budget": {"usd": "1"}}, {"budget": {"usd": "3"}}, "budget.usd: 1 -> 3"),
    ("Mission", {"review": "Human"}, {"review": "None"}, "review: Human -> None"),
    ("Policy", {"hardStops": ["Payments"]}, {"hardStops": []}, "hardStops switched off: Payments"),
    ("Policy", {"risk": {"x": "Red"}}, {"risk": {"x": "Green"}}, "risk.x: Red -> Green"),
    (
        "Policy",
        {"rules": [{"name": "no", "verdict": "Deny"}]},
        {"rules": [{"name": "no", "verdict": "RequireApproval"}]},
        "rule no: Deny -> RequireApproval",
    ),
    ("Policy", {"rules": [{"name": "no", "verdict": "Deny"}]}, {"rules": []}, "rule no (Deny) goes away"),
    ("Policy", {"allowlists": {"shell": []}}, {"allowlists": {"shell": ["ls"]}}, "allowlists grow: shell:ls"),
    ("Policy", {"approvals": {"quorum": 2}}, {"approvals": {"quorum": 1}}, "approvals.quorum: 2 -> 1"),
    ("Hold", {"mode": "Stop"}, {"mode": "Drain"}, "mode: Stop -> Drain"),
    ("Hold", {}, {"until": "2026-12-01T00:00:00Z"}, "until: for ever -> 2026-12-01T00:00:00Z"),
    ("Hold", {"quarantine": True}, {}, "quarantine: switched off"),
    ("Hold", {"scope": "Global"}, {"scope": "Tenant"}, "what it holds changed: some of it may be free"),
    ("Hold", {}, {"released": {"tenants": ["acme"]}}, "released.tenants grow: acme"),
    ("Hold", {"released": {"percent": 10}}, {"released": {"percent": 40}}, "released.percent: 10 -> 40"),
    (
        "Tenant",
        {"members": [{"subject": "user:ada", "role": "Approver"}, {"subject": "user:vic", "role": "Viewer"}]},
        {"members": [{"subject": "user:ada", "role": "Approver"}, {"subject": "user:vic", "role": "Admin"}]},
        "members: may approve from now on: user:vic",
    ),
    (
        "Tenant",
        {"members": [{"subject": "user:ada", "role": "Approver"}]},
        {},
        "members: nobody is named any more, so whoever is proven may approve",
    ),
    ("Policy", {"risk": {"read_file": "Red"}}, {}, "risk.read_file: Red -> Green"),
    ("Policy", {"risk": {"send_*": "Red"}}, {"risk": {"send_*": "Green"}}, "risk.send_email: Red -> Green"),
    ("Policy", {"autonomy": {"cooldown": "15s"}}, {"autonomy": {"cooldown": "1s"}}, "autonomy.cooldown: 15s -> 1s"),
    ("Policy", {"spawn": {"ttl": "1h"}}, {}, "spawn.ttl: 1h -> 6h"),
    ("Policy", {}, {"loopDetection": {"reviewCycles": 90}}, "loopDetection.reviewCycles: 3 -> 90"),
    ("Policy", {"redaction": "Strict"}, {"redaction": "Off"}, "redaction: Strict -> Off"),
    ("Policy", {"approvals": {"timeout": "1h"}}, {}, "approvals.timeout: 1h -> 111h"),
    (
        "Tenant",
        {"limits": {"maxActiveAgents": 5}},
        {"limits": {"maxActiveAgents": 9}},
        "limits.maxActiveAgents: 5 -> 9",
    ),
    ("Tenant", {"lifecycle": "Suspended"}, {"lifecycle": "Active"}, "lifecycle: Suspended -> Active"),
    (
        "Tenant",
        {"defaults": {"policyRefs": [{"name": "house-rules"}], "budgetRef": {"name": "month"}}},
        {},
        "defaults.policyRefs: hold for all of its agents no more: name:house-rules",
    ),
    (
        "Tenant",
        {"defaults": {"builtInBudgets": False}},
        {},
        "defaults.builtInBudgets: work that no Budget covers is not refused any more",
    ),
    ("Source", {"widening": "Confirm"}, {"widening": "Apply"}, "widening: Confirm -> Apply"),
    ("Source", {"verify": {"mode": "Head"}}, {}, "verify: switched off"),
    ("Source", {"quarantine": ["abcdef1"]}, {"quarantine": []}, "quarantine: may be applied again: abcdef1"),
    ("Source", {"prune": "Confirm"}, {"prune": "Guarded"}, "prune: Confirm -> Guarded"),
    ("Executor", {"sandbox": {"writePaths": []}}, {"sandbox": {"writePaths": ["/"]}}, "sandbox.writePaths grows: /"),
]


@pytest.mark.parametrize(("kind", "tight", "loose", "text"), CASES)
def test_a_loosened_limit_is_a_widening_and_its_way_back_is_not(
    kind: str, tight: dict[str, Any], loose: dict[str, Any], text: str
) -> None:
    assert text in widenings(kind, tight, loose)
    assert widenings(kind, loose, tight) == []
    assert narrowings(kind, loose, tight) != []


def test_every_kind_that_is_a_guardrail_is_one_here() -> None:
    assert {name.kind for name in registry.NAMES if registry.by_kind(name.kind).guardrail} == LIMITS


def test_a_new_policy_is_compared_with_what_is_built_in() -> None:
    assert widenings("Policy", None, PolicySpec().to_wire()) == []
    loose = PolicySpec.model_validate({"hardStops": ["Payments"], "risk": {"send_email": "Green"}})
    found = widenings("Policy", None, loose.to_wire())
    assert [text.partition(":")[0] for text in found] == ["risk.send_email", "hardStops switched off"]


def test_losing_a_label_by_which_limits_pick_is_a_widening_and_winning_one_is_not() -> None:
    labels = {"team": "docs", "stage": "beta"}
    text = "labels: team: what picked it by them may hold it no more"
    assert relabelled("Agent", labels, {"stage": "beta"}) == [text]
    assert relabelled("Agent", labels, {**labels, "team": "ops"}) == [text]
    assert relabelled("Agent", {"stage": "beta"}, labels) == []
    assert relabelled("Project", labels, {}) == []


@pytest.mark.parametrize("kind", sorted(LIMITS))
def test_deleting_a_limit_is_a_widening(kind: str) -> None:
    assert widenings(kind, {}, None) == [f"the {kind} goes away"]


def test_a_new_waiver_is_a_widening_and_its_end_is_not() -> None:
    waiver = {"expires": "2026-12-01T00:00:00Z", "reason": "release night"}
    assert widenings("Waiver", None, waiver) == ["a waiver until 2026-12-01T00:00:00Z: release night"]
    assert widenings("Waiver", waiver, None) == []


def test_an_explicit_allow_is_a_widening_also_in_a_new_policy() -> None:
    policy = {"rules": [{"name": "go", "verdict": "Allow"}]}
    assert widenings("Policy", None, policy) == ["rule go: allows what the table would ask for"]
