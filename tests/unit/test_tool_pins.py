"""What is pinned against what a server offers, and which tools an agent is shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from decisions import tools
from decisions.policy.compiled import Document, PolicySet, compile_policy
from decisions.policy.facts import AgentFacts
from decisions.policy.reach import knows_server, may_ever
from decisions.widening import narrowings, widenings
from schemas import tool_definition
from schemas.agent import AutonomyLevel
from schemas.base import Key
from schemas.policy import PolicySpec, Risk
from schemas.tool_definition import Unreadable, definition_of, digest_of, hinted_risk
from schemas.tool_server import Pin, ToolServerSpec, ToolState

NOW = datetime(2026, 1, 2, tzinfo=UTC)
TOOL: dict[str, Any] = {"name": "search", "description": "Finds", "inputSchema": {"type": "object"}}
D1, D2 = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def test_the_digest_covers_what_agents_see_and_nothing_else() -> None:
    one = digest_of(definition_of(TOOL))
    assert one == digest_of(definition_of({**TOOL, "_meta": {"a": 1}, "icons": [1], "title": None}))
    changes: list[dict[str, Any]] = [
        {"description": "Finds."}, {"title": "x"}, {"inputSchema": {"type": "object", "a": 1}},
        {"outputSchema": {}}, {"annotations": {"readOnlyHint": True}}, {"name": "searches"},
    ]  # fmt: skip
    assert len({one, *(digest_of(definition_of({**TOOL, **change})) for change in changes)}) == len(changes) + 1


@pytest.mark.parametrize(
    "change",
    [{"name": "@resource"}, {"name": "a/b"}, {"name": ""}, {"name": 1}, {"name": "x" * 129}, {"inputSchema": None},
     {"inputSchema": []}, {"description": "x" * 70_000}, {"annotations": {"n": 2**70}},
     {"annotations": {"n": float("nan")}}, {"description": "\ud800"}],
)  # fmt: skip
def test_what_is_no_definition_is_nobodys(change: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        definition_of({**TOOL, **change})
    assert tools.offered([{**TOOL, **change}]) == []


def test_a_name_that_stands_twice_is_nobodys() -> None:
    assert tools.offered([TOOL, {**TOOL, "description": "another"}, {**TOOL, "name": "b"}])[0].name == "b"


@pytest.mark.parametrize(
    ("annotations", "risk"),
    [(None, None), ({}, None), ({"readOnlyHint": True}, None), ({"destructiveHint": True}, Risk.RED),
     ({"destructiveHint": True, "readOnlyHint": True}, None), ({"openWorldHint": True}, Risk.YELLOW),
     ({"destructiveHint": "yes"}, None)],
)  # fmt: skip
def test_what_a_server_says_of_itself_can_only_raise_the_risk(annotations: Any, risk: Risk | None) -> None:
    assert hinted_risk({**TOOL, "annotations": annotations}) is risk


def test_tools_go_from_new_to_accepted_to_changed_to_gone() -> None:
    first = tools.judged(tools.seen((), tools.offered([TOOL]), NOW), ())
    assert [(t.state, t.changed) for t in first] == [(ToolState.NEW, ())]
    assert first[0].definition == TOOL
    pins = (Pin(tool="search", digest=first[0].digest),)
    accepted = tools.judged(first, pins)
    assert [(t.state, t.definition) for t in accepted] == [(ToolState.ACCEPTED, {})]
    other = {**TOOL, "description": "Finds and sends", "annotations": {"openWorldHint": True}}
    changed = tools.judged(tools.seen(accepted, tools.offered([other]), NOW), pins)
    assert [(t.state, t.changed) for t in changed] == [(ToolState.CHANGED, ("description", "annotations"))]
    gone = tools.judged(tools.seen(changed, [], NOW), pins)
    assert [t.state for t in gone] == [ToolState.GONE]
    assert tools.judged(tools.seen(gone, [], NOW), ()) == ()
    back = tools.judged(tools.seen(gone, tools.offered([TOOL]), NOW), pins)
    assert [t.state for t in back] == [ToolState.ACCEPTED]


def test_a_quarantined_definition_that_is_large_is_not_kept() -> None:
    large = {**TOOL, "description": "x" * 20_000}
    (tool,) = tools.judged(tools.seen((), tools.offered([large]), NOW), ())
    assert tool.definition == {}
    assert tool.digest == digest_of(definition_of(large))
    assert tool_definition.parts_of(definition_of(large)) == tool.parts


def policies(**spec: Any) -> PolicySet:
    return PolicySet([compile_policy(Document(Key("Policy", "d", "p"), PolicySpec.model_validate(spec)))])


def test_an_agent_is_shown_what_some_call_of_may_be_allowed() -> None:
    agent = AgentFacts(Key("Agent", "d", "a"), AutonomyLevel.INTERN, ("mcp:t/*",))
    never = policies(rules=[{"name": "n", "match": {"tools": ["mcp:t/wipe"]}, "verdict": "Deny"},
                            {"name": "s", "match": {"tools": ["mcp:t/some"], "when": "args.a == 1"},
                             "verdict": "Deny"}])  # fmt: skip
    shown = [n for n in ("x", "wipe", "some", "@resource") if may_ever(f"mcp:t/{n}", agent, never)]
    assert shown == ["x", "some", "@resource"]
    assert not may_ever("mcp:u/x", agent, never)
    assert not may_ever("mcp:t/x y", agent, never)
    assert not may_ever("mcp:t/pay", agent, PolicySet())
    assert (knows_server("t", agent), knows_server("u", agent)) == (True, False)


def spec(**more: Any) -> dict[str, Any]:
    return ToolServerSpec.model_validate({"type": "Stdio", "stdio": {"argv": ["x"]}, **more}).to_wire()


def test_accepting_a_tool_is_a_widening_and_forgetting_it_is_none() -> None:
    old, new = spec(pins=[{"tool": "a", "digest": D1}]), spec(pins=[{"tool": "a", "digest": D2}])
    assert widenings("ToolServer", None, old) == ["pins.a: accepted"]
    assert widenings("ToolServer", old, new) == ["pins.a: accepted with another definition"]
    assert widenings("ToolServer", old, spec()) == []
    assert narrowings("ToolServer", old, spec()) == ["tightened: pins.a: accepted"]
    assert widenings("ToolServer", spec(), spec(stdio={"argv": ["y"]})) == ["stdio: it is another server"]
    assert widenings("ToolServer", spec(suspend=True), spec()) == ["suspend: its tools are served again"]
    assert widenings("ToolServer", spec(), spec(callTimeout="5s")) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"type": "Stdio"}, "needs stdio"),
        ({"type": "Http", "stdio": {"argv": ["x"]}}, "has no stdio"),
        ({"type": "Http", "http": {"url": "https://u:p@h/mcp"}}, "write an address"),
        ({"type": "Http", "http": {"url": "https://h/mcp#x"}}, "write an address"),
        ({"type": "Http", "http": {"url": "https://h:0/mcp"}}, "write an address"),
        ({"type": "Http", "http": {"url": "http://h/mcp", "headers": [
            {"name": "A", "valueFrom": {"env": "X"}}]}}, "secrets would travel readable"),
        ({"type": "Http", "http": {"url": "https://h/", "headers": [{"name": "Host", "value": "x"}]}}, "sets Host"),
        ({"type": "Http", "http": {"url": "https://h/", "headers": [{"name": "A", "value": "x"},
                                                                    {"name": "a", "value": "y"}]}}, "must be unique"),
        (spec(pins=[]) | {"pins": [{"tool": "a", "digest": D1}, {"tool": "a", "digest": D2}]}, "must be unique"),
        (spec() | {"callTimeout": "2h"}, "at most 1h"),
        (spec() | {"approvalWait": "20m"}, "at most 10m"),
    ],
)  # fmt: skip
def test_a_server_that_is_declared_wrongly_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ToolServerSpec.model_validate(values)
