"""The reference pages against the code that they describe: mission states, the agent protocol."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest

from api.agents.app import create_app
from decisions.moves import legal_moves
from schemas.mission import MissionReason, MissionState
from schemas.resource import ActorKind
from tests.fakes.pages import page, rows

LETTERS = {"a": ActorKind.AGENT, "h": ActorKind.HUMAN, "s": ActorKind.SYSTEM}
STATES = page("docs/reference/mission-states.md")
PROTOCOL = page("docs/reference/agent-protocol.md")


def test_the_table_of_moves_is_that_of_the_code() -> None:
    head, *body = rows(STATES.section("Mission states"))[: len(MissionState) + 1]
    assert head[1:] == [state.value for state in MissionState]
    assert [row[0] for row in body] == [state.value for state in MissionState]
    for row in body:
        for to, cell in zip(head[1:], row[1:], strict=True):
            for letter, actor in LETTERS.items():
                legal = MissionState(to) in legal_moves(MissionState(row[0]), actor)
                assert (letter in cell.split()) == legal, f"{row[0]} -> {to} by {actor}"


def test_every_state_is_explained() -> None:
    shown = [row[0] for row in rows(STATES.section("What each state means"))[1:]]
    assert shown == [state.value for state in MissionState]


def test_every_move_that_is_explained_is_legal_for_somebody() -> None:
    moves = [row[0] for row in rows(STATES.section("What makes each move in this version"))[1:]]
    assert len(moves) > 10
    for move in moves:
        origins, _, to = move.partition(" -> ")
        names = [s.value for s in MissionState if s.value != to] if origins.startswith("any") else origins.split(", ")
        for origin in names:
            reachable = {s for actor in ActorKind for s in legal_moves(MissionState(origin), actor)}
            assert MissionState(to) in reachable, move


def test_words_that_look_like_reasons_are_reasons() -> None:
    for word in ("OutcomeUnknown", "Outdated"):
        assert word in {reason.value for reason in MissionReason}


class _Nothing:
    """Stands for what the description of the endpoints needs none of."""

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **named: None


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    nothing = cast(Any, _Nothing())
    app = create_app(nothing, nothing, clock=nothing, blocking=nothing, state_dir=Path("state"))
    return cast(dict[str, Any], app.openapi())


def test_the_endpoints_are_those_of_the_engine(openapi: dict[str, Any]) -> None:
    served = {(method.upper(), path) for path, methods in openapi["paths"].items() for method in methods}
    shown = {(row[0], row[1].strip("`")) for row in rows(PROTOCOL.section("Endpoints"))[1:]}
    assert shown == served


def test_the_messages_have_the_fields_of_the_engine(openapi: dict[str, Any]) -> None:
    schemas = openapi["components"]["schemas"]
    served = set()
    for path, methods in openapi["paths"].items():
        if "post" not in methods or "/hooks/" in path or "/interceptors/" in path:
            continue  # what their agents send is not ours to say
        name = path.rpartition("/")[2]
        ref = methods["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        schema = schemas[ref.rpartition("/")[2]]
        fields = schema.get("properties", {})
        served |= {(name, field, field in schema.get("required", ())) for field in fields} or {(name, "", False)}
    shown = {(row[0], row[1].strip("`"), row[2] == "yes") for row in rows(PROTOCOL.section("Messages"))[1:]}
    assert shown == served


def test_the_problems_are_those_of_the_engine(openapi: dict[str, Any]) -> None:
    served = {
        int(status)
        for methods in openapi["paths"].values()
        for operation in methods.values()
        for status in operation["responses"]
    }
    shown = {int(row[0]) for row in rows(PROTOCOL.section("Problems")) if row[0].isdigit()}
    assert shown == served - {200}


def test_the_notices_are_those_of_the_engine(openapi: dict[str, Any]) -> None:
    notice = openapi["components"]["schemas"]["Notice"]
    text = PROTOCOL.section("Answers")
    assert [field for field in notice["properties"] if f"`{field}`" not in text] == []
    assert set(re.findall(r"`(Cancel|Drain|Message)`", text)) == {"Cancel", "Drain", "Message"}
