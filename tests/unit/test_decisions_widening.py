"""Which edits loosen a limit: each rule once in both directions."""

from __future__ import annotations

from typing import Any

import pytest

from decisions.widening import narrowings, widenings

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
    ("Executor", {"sandbox": {"writePaths": []}}, {"sandbox": {"writePaths": ["/"]}}, "sandbox.writePaths grows: /"),
]


@pytest.mark.parametrize(("kind", "tight", "loose", "text"), CASES)
def test_a_loosened_limit_is_a_widening_and_its_way_back_is_not(
    kind: str, tight: dict[str, Any], loose: dict[str, Any], text: str
) -> None:
    assert text in widenings(kind, tight, loose)
    assert widenings(kind, loose, tight) == []
    assert narrowings(kind, loose, tight) != []


@pytest.mark.parametrize("kind", ["Policy", "Budget", "Hold"])
def test_deleting_a_limit_is_a_widening(kind: str) -> None:
    assert widenings(kind, {}, None) == [f"the {kind} goes away"]


def test_a_new_waiver_is_a_widening_and_its_end_is_not() -> None:
    waiver = {"expires": "2026-12-01T00:00:00Z", "reason": "release night"}
    assert widenings("Waiver", None, waiver) == ["a waiver until 2026-12-01T00:00:00Z: release night"]
    assert widenings("Waiver", waiver, None) == []


def test_an_explicit_allow_is_a_widening_also_in_a_new_policy() -> None:
    policy = {"rules": [{"name": "go", "verdict": "Allow"}]}
    assert widenings("Policy", None, policy) == ["rule go: allows what the table would ask for"]
