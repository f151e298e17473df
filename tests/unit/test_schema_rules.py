"""Rules of single documents: what each kind refuses, and with which words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schemas import registry
from schemas.agent import AutonomyLevel
from schemas.budget import DEFAULT_AGENT_DAY_USD, DEFAULT_MISSION_USD, DEFAULT_OTHER_MISSION_USD, DEFAULT_RUN_USD
from schemas.channel import DEFAULT_NOTIFICATIONS, ChannelSpec
from schemas.policy import (
    DEFAULT_APPROVALS,
    DEFAULT_AUTONOMY,
    DEFAULT_LOOP_DETECTION,
    DEFAULT_RISK,
    DEFAULT_SPAWN,
    UNKNOWN_TOOL_RISK,
    VERDICT_BY_LEVEL,
    HardStop,
    PolicySpec,
    Risk,
    Verdict,
)
from schemas.project import STAGE_ORDER, Stage, is_legal_stage_move
from schemas.resource import digest
from schemas.run import run_name
from schemas.user_schema import require_json_schema, violations


def wire(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The canonical spec, as the registry makes it."""
    return registry.by_kind(kind).spec.model_validate(spec, by_alias=True, by_name=False).to_wire()


def refusal(kind: str, spec: dict[str, Any]) -> str:
    """What the first fault says, with its place in front."""
    with pytest.raises(ValidationError) as caught:
        wire(kind, spec)
    fault = caught.value.errors(include_url=False, include_input=False)[0]
    return ".".join(str(part) for part in fault["loc"]) + ": " + fault["msg"].removeprefix("Value error, ")


MATCH = {"tools": ["send_email"]}
WAIVER = {"match": MATCH, "owner": "alice", "reason": "nightly", "expires": "2027-01-01T00:00:00Z"}
BUDGET = {"scope": {"tenant": True}, "limits": {"usd": 1}}
SCHEDULE = {"schedule": "@daily", "missionTemplate": {"spec": {"title": "x"}}}


@pytest.mark.parametrize(
    ("kind", "spec", "words"),
    [
        # Tenant and Project
        ("Tenant", {"members": [{"subject": "alice", "role": "Admin"}]}, "members.0.subject: String should match"),
        ("Tenant", {"members": [{"subject": "user:a", "role": "Boss"}]}, "members.0.role: "),
        (
            "Tenant",
            {"members": [{"subject": "user:a", "role": "Admin"}, {"subject": "user:a", "role": "Viewer"}]},
            "more than one: user:a",
        ),
        ("Tenant", {"limits": {"maxActiveAgents": -1}}, "limits.maxActiveAgents: "),
        ("Tenant", {"retention": {"events": "0s"}}, "retention.events: a duration longer than 0s"),
        ("Project", {"stage": "Shipping"}, "stage: "),
        ("Project", {"links": [{"title": "x", "url": "javascript:alert(1)"}]}, "links.0.url: "),
        ("Project", {"links": [{"title": "x", "url": 'https://a/"onclick'}]}, "links.0.url: "),
        # Provider
        ("Provider", {"maxConcurrency": "3"}, "maxConcurrency: "),
        (
            "Provider",
            {"prices": [{"model": "a", "inputPerMillion": 1, "outputPerMillion": 1}] * 2},
            "more than one: a",
        ),
        ("Provider", {"prices": [{"model": "a b", "inputPerMillion": 1, "outputPerMillion": 1}]}, "prices.0.model: "),
        # Policy
        ("Policy", {"rules": [{"name": "a", "match": {}, "verdict": "Deny"}]}, "every tool is tools: ['*']"),
        ("Policy", {"rules": [{"name": "a", "match": MATCH, "verdict": "Maybe"}]}, "rules.0.verdict: "),
        ("Policy", {"rules": [{"name": "a", "match": MATCH, "verdict": "Deny"}] * 2}, "more than one: a"),
        (
            "Policy",
            {"rules": [{"name": "a", "match": {"when": "x" * 2001}, "verdict": "Deny"}]},
            "rules.0.match.when: String should have at most 2000",
        ),
        ("Policy", {"risk": {"shell exec": "Red"}}, "risk.shell exec.[key]: "),
        ("Policy", {"risk": {"shell_exec": "Purple"}}, "risk.shell_exec: "),
        ("Policy", {"hardStops": ["Payments", "Payments"]}, "hardStops: hardStops must be unique"),
        ("Policy", {"hardStops": ["All"]}, "hardStops.0: "),
        ("Policy", {"approvals": {"timeout": "1h", "remindAfter": "1h"}}, "remindAfter must be shorter than timeout"),
        ("Policy", {"approvals": {"approvers": {"roles": []}}}, "nobody could ever answer"),
        (
            "Policy",
            {"approvals": {"quorum": 2, "approvers": {"roles": [], "subjects": ["user:a"]}}},
            "quorum asks for more answers",
        ),
        ("Policy", {"approvals": {"onTimeout": "Allow"}}, "approvals.onTimeout: "),
        ("Policy", {"allowlists": {"network": ["https://a.example/x"]}}, "without a scheme or path"),
        ("Policy", {"allowlists": {"network": ["a b"]}}, "allowlists.network.0: "),
        ("Policy", {"allowlists": {"emailRecipients": ["*@*"]}}, "write an address such as"),
        ("Policy", {"allowlists": {"emailRecipients": ["ann"]}}, "write an address such as"),
        ("Policy", {"allowlists": {"filesystem": {"read": ["../x"]}}}, "a path has no '..'"),
        ("Policy", {"loopDetection": {"messagesPer30min": 3}}, "loopDetection.messagesPer30min: Extra inputs"),
        # Waiver
        ("Waiver", {key: value for key, value in WAIVER.items() if key != "expires"}, "expires: Field required"),
        ("Waiver", {key: value for key, value in WAIVER.items() if key != "owner"}, "owner: Field required"),
        ("Waiver", {key: value for key, value in WAIVER.items() if key != "reason"}, "reason: Field required"),
        ("Waiver", {**WAIVER, "reason": "  "}, "reason: "),
        ("Waiver", {**WAIVER, "verdict": "Deny"}, "a Waiver loosens"),
        ("Waiver", {**WAIVER, "match": {"tools": ["*"]}}, "narrow match or selector"),
        # Budget
        ("Budget", {**BUDGET, "scope": {}}, "exactly one of tenant"),
        ("Budget", {**BUDGET, "scope": {"tenant": True, "missionType": "Docs"}}, "exactly one of tenant"),
        ("Budget", {**BUDGET, "scope": {"tenant": False}}, "tenant is true or left out"),
        ("Budget", {**BUDGET, "limits": {}}, "the budget would limit nothing"),
        ("Budget", {**BUDGET, "limits": {"usd": -1}}, "limits.usd: "),
        ("Budget", {**BUDGET, "warnAt": 1.5}, "warnAt: "),
        ("Budget", {**BUDGET, "window": "Week"}, "window: "),
        ("Budget", {**BUDGET, "timeZone": "Berlin"}, "did you mean Europe/Berlin?"),
        # Goal and Todo
        ("Goal", {"objective": " "}, "objective: "),
        ("Goal", {"objective": "x", "metric": {"source": "a", "target": 0}}, "nothing would measure progress"),
        ("Goal", {"objective": "x", "cadence": "0s"}, "cadence: "),
        ("Goal", {"objective": "x", "deadline": "2h"}, "deadline: not a time"),
        ("Goal", {"objective": "x", "todos": [{"name": "a", "title": "x"}] * 2}, "more than one: a"),
        (
            "Goal",
            {"objective": "x", "missionTemplates": [{"name": "a" * 61, "spec": {"title": "x"}}]},
            "missionTemplates.0.name: String should have at most 60",
        ),
        ("Todo", {"title": "x", "state": "Closed"}, "state: "),
        ("Todo", {"title": "x", "dueDate": "2026-02-30"}, "no such day"),
        (
            "Todo",
            {"title": "x", "assignee": "user:a", "missionTemplate": {"spec": {"title": "x"}}},
            "missionTemplate or a user as assignee",
        ),
        # Mission
        ("Mission", {"title": "x", "agentRef": {"name": "a"}, "agentSelector": {}}, "agentRef or agentSelector"),
        ("Mission", {"title": "a\nb"}, "title: "),
        ("Mission", {"title": "x", "priority": "Urgent"}, "priority: "),
        ("Mission", {"title": "x", "priority": True}, "priority: "),
        ("Mission", {"title": "x", "priority": 101}, "priority: "),
        ("Mission", {"title": "x", "suspend": "no"}, "suspend: "),
        ("Mission", {"title": "x", "deadline": "0s"}, "deadline: "),
        ("Mission", {"title": "x", "input": {"a": {"b": [float("inf")]}}}, "a.b: neither infinity"),
        # Schedule
        ("Schedule", {**SCHEDULE, "schedule": "0 9 * *"}, "this has 4"),
        ("Schedule", {**SCHEDULE, "timeZone": "Mars/Olympus"}, "no time zone of that name"),
        ("Schedule", {"schedule": "@daily"}, "missionTemplate: Field required"),
        ("Schedule", {**SCHEDULE, "missionTemplate": {"spec": {}}}, "missionTemplate.spec.title: Field required"),
        ("Schedule", {**SCHEDULE, "concurrencyPolicy": "allow"}, "concurrencyPolicy: "),
        # Channel
        ("Channel", {"type": "Email"}, "type Email needs the block email"),
        ("Channel", {"type": "Dashboard", "webhook": {"url": "https://a"}}, "does not take the block webhook"),
        ("Channel", {"type": "Email", "email": {"to": []}}, "email.to: "),
        ("Channel", {"type": "Telegram", "telegram": {"chatId": 5, "token": "123:abc"}}, "telegram.token: "),
        ("Channel", {"type": "Dashboard", "routes": [{"events": []}]}, "routes.0.events: "),
        ("Channel", {"type": "Dashboard", "quietHours": {"start": "24:00", "end": "07:00"}}, "quietHours.start: "),
        ("Channel", {"type": "Dashboard", "quietHours": {"start": "07:00", "end": "07:00"}}, "are the same"),
        # Agent and Executor
        ("Agent", {"executorRef": {"name": "a"}, "subAgents": {"allowed": True}}, "an Intern may not spawn"),
        ("Agent", {"executorRef": {"name": "a"}, "inputSchema": {"type": "objct"}}, "not a JSON Schema"),
        ("Agent", {"executorRef": {"name": "a"}, "systemPromptFrom": {"path": "../x"}}, "systemPromptFrom.path: "),
        ("Agent", {"executorRef": {"name": "A"}}, "executorRef.name: "),
        ("Executor", {"type": "Command"}, "type Command needs the block command"),
        ("Executor", {"type": "A2A", "http": {"url": "http://a"}}, "does not take the block http"),
        ("Executor", {"type": "Http", "http": {"url": "file:///etc/passwd"}}, "http.url: "),
        ("Executor", {"type": "Command", "command": {"argv": ["a\x00b"]}}, "command.argv.0: "),
        ("Executor", {"type": "Pull", "timeout": "0s"}, "timeout: "),
        (
            "Executor",
            {"type": "Command", "command": {"argv": ["a"], "env": [{"name": "REMIT_TOKEN", "value": "x"}]}},
            "set by the engine",
        ),
        # Acts
        ("Hold", {"reason": "x"}, "exactly one of selector and scope"),
        ("Hold", {"reason": "x", "selector": {"kinds": ["Policy"], "names": ["a"]}}, "cannot hold Policy"),
        ("Hold", {"reason": "x", "selector": {"kinds": [], "names": ["a"]}}, "selector.kinds: "),
        ("Hold", {"reason": "x", "selector": {}}, "name something"),
        ("Confirmation", {"planDigest": "abc"}, "planDigest: "),
    ],
)
def test_a_document_is_refused_in_words_that_name_the_field(kind: str, spec: dict[str, Any], words: str) -> None:
    assert words in refusal(kind, spec)


# Canonical forms -----------------------------------------------------------------------------------------------------


def test_ways_of_writing_the_same_mission_are_one_spec() -> None:
    forms: list[dict[str, Any]] = [
        {"title": "x", "priority": "High", "deadline": "60m", "budget": {"usd": "2.00", "wallTime": "90s"}},
        {"title": " x ", "priority": 80, "deadline": "1h", "budget": {"usd": 2, "wallTime": "1m30s"}},
        {"budget": {"wallTime": "90s", "usd": 2.0}, "deadline": "3600s", "priority": 80, "title": "x"},
    ]
    assert len({digest(wire("Mission", form)) for form in forms}) == 1


def test_a_default_that_is_written_out_changes_nothing() -> None:
    for kind, spec in (("Mission", {"title": "x"}), ("Policy", {}), ("Schedule", SCHEDULE), ("Budget", BUDGET)):
        assert wire(kind, wire(kind, spec)) == wire(kind, spec)


def test_lists_that_mean_sets_have_one_order() -> None:
    assert wire("Policy", {"hardStops": ["PublicPosting", "Payments"]})["hardStops"] == ["Payments", "PublicPosting"]
    route = {"events": ["MissionFailed", "ApprovalRequired"]}
    spec = wire("Channel", {"type": "Dashboard", "routes": [route]})
    assert spec["routes"][0]["events"] == ["ApprovalRequired", "MissionFailed"]


def test_addresses_and_hosts_have_one_case() -> None:
    lists = wire("Policy", {"allowlists": {"network": ["API.Example", "10.1.2.3/8"], "emailRecipients": ["*@A.EU"]}})
    assert lists["allowlists"]["network"] == ["api.example", "10.0.0.0/8"]
    assert lists["allowlists"]["emailRecipients"] == ["*@a.eu"]
    chat = {"chatId": -100123, "token": {"env": "T"}}
    assert wire("Channel", {"type": "Telegram", "telegram": chat})["telegram"]["chatId"] == "-100123"


def test_nulls_of_free_json_are_kept() -> None:
    assert wire("Mission", {"title": "x", "input": {"a": None, "b": [None]}})["input"] == {"a": None, "b": [None]}


def test_the_a2a_block_keeps_its_name_on_the_wire() -> None:
    assert wire("Executor", {"type": "A2A", "a2a": {"url": "https://a.example"}})["a2a"]["url"] == "https://a.example"


# Defaults that other parts rely on -----------------------------------------------------------------------------------


def test_every_hard_stop_is_on_unless_a_list_replaces_them() -> None:
    assert wire("Policy", {})["hardStops"] == [str(stop) for stop in HardStop]
    assert wire("Policy", {"hardStops": []})["hardStops"] == []


def test_sections_that_a_policy_leaves_out_say_nothing() -> None:
    assert not {"approvals", "autonomy", "loopDetection", "spawn"} & set(wire("Policy", {}))
    assert PolicySpec().selector.matches({"any": "labels"})


def test_the_built_in_limits_are_those_of_the_design() -> None:
    assert DEFAULT_APPROVALS.to_wire() == {
        "timeout": "111h",
        "onTimeout": "Park",
        "approvers": {"roles": ["Approver"], "subjects": []},
        "quorum": 1,
        "separationOfDuties": True,
    }
    assert DEFAULT_AUTONOMY.to_wire() == {"maxConsecutive": 3, "cooldown": "15s"}
    assert DEFAULT_SPAWN.to_wire() == {"maxActive": 30, "maxPerParent": 3, "maxDepth": 2, "ttl": "6h"}
    assert DEFAULT_LOOP_DETECTION.to_wire() == {
        "messagesPer30Min": 20,
        "reviewCycles": 3,
        "pingPongPer10Min": 8,
        "sameErrorRetries": 3,
        "sameOutputRepeats": 5,
        "noProgressRuns": 3,
        "selfWakesPer30Min": 5,
        "spendSlopeFactor": 8,
    }


def test_the_built_in_risk_table_fails_closed() -> None:
    assert UNKNOWN_TOOL_RISK is Risk.RED
    assert {risk: sum(1 for r in DEFAULT_RISK.values() if r is risk) for risk in Risk} == {
        Risk.GREEN: 5,
        Risk.YELLOW: 6,
        Risk.RED: 5,
    }
    for level in AutonomyLevel:
        assert VERDICT_BY_LEVEL[level][Risk.GREEN] is Verdict.ALLOW
        assert VERDICT_BY_LEVEL[level][Risk.RED] is Verdict.REQUIRE_APPROVAL
    assert VERDICT_BY_LEVEL[AutonomyLevel.INTERN][Risk.YELLOW] is Verdict.REQUIRE_APPROVAL
    with pytest.raises(TypeError):
        DEFAULT_RISK["send_email"] = Risk.GREEN  # type: ignore[index]


def test_the_built_in_budgets_are_those_of_the_design() -> None:
    assert [str(DEFAULT_AGENT_DAY_USD[level]) for level in AutonomyLevel] == ["2", "5", "12"]
    assert [str(DEFAULT_RUN_USD[level]) for level in AutonomyLevel] == ["0.25", "0.75", "1.5"]
    assert min(DEFAULT_MISSION_USD.values()) == DEFAULT_OTHER_MISSION_USD


def test_a_channel_without_routes_is_told_what_needs_a_person() -> None:
    spec = ChannelSpec.model_validate({"type": "Dashboard"})
    assert spec.routes[0].events == DEFAULT_NOTIFICATIONS
    assert ChannelSpec.model_validate({"type": "Dashboard", "routes": []}).routes == ()


def test_a_project_moves_one_stage_forward_and_back_freely() -> None:
    assert is_legal_stage_move(Stage.DEFINITION, Stage.DESIGN)
    assert not is_legal_stage_move(Stage.DEFINITION, Stage.DEVELOPMENT)
    assert all(is_legal_stage_move(Stage.END_OF_LIFE, stage) for stage in STAGE_ORDER)


def test_names_of_runs_are_names() -> None:
    assert run_name("a" * 240, 7) == "a" * 240 + "-7"
    assert run_name("a" * 239 + "." + "b", 7) == "a" * 239 + "-7"


# JSON Schemas that people write --------------------------------------------------------------------------------------


def test_a_value_that_does_not_meet_a_schema_is_told_where() -> None:
    schema = {"type": "object", "required": ["paths"], "properties": {"paths": {"items": {"type": "string"}}}}
    require_json_schema(schema)
    assert violations(schema, {"paths": ["a"]}) == []
    assert violations(schema, {"paths": [1]}) == ["paths.0: 1 is not of type 'string'"]
    assert violations(schema, {}) == ["the value: 'paths' is a required property"]


def test_of_several_alternatives_the_nearest_is_named() -> None:
    schema = {"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 2}]}
    (line,) = violations(schema, "abc")
    assert "valid under any" not in line


@pytest.mark.parametrize("reference", ["http://a.example/s.json", "file:///etc/passwd", "other.json"])
def test_a_schema_never_leads_out_of_its_document(reference: str) -> None:
    with pytest.raises(ValueError, match="leaves the document"):
        require_json_schema({"properties": {"a": {"$ref": reference}}})


def test_a_schema_that_leads_nowhere_or_around_is_a_finding_and_no_crash() -> None:
    assert violations({"$ref": "#/$defs/none"}, 1)[0].startswith("the schema itself: ")
    assert violations({"$ref": "#"}, 1) == ["the schema itself: it refers to itself without end"]
