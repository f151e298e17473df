"""What a plan says of edits to agents and executors: restart, drain or none, and what serves meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from decisions.fields import diff
from decisions.plan import Action, Entry, Plan, strongest_disruption
from decisions.plan_effects import EffectKind, PlanEffect, predict
from decisions.widening import narrowings
from schemas import registry
from schemas.base import Key

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AGENT: dict[str, Any] = {"executorRef": {"name": "local"}, "tools": [{"name": "a"}, {"name": "b"}]}
EXECUTOR: dict[str, Any] = {"type": "Command", "command": {"argv": ["sh"]}}


def effects(kind: str, old: dict[str, Any], new: dict[str, Any], active: int = 0) -> list[PlanEffect]:
    key = Key(kind, "default", "x")
    changes = tuple(diff(old, new, "spec"))
    strongest = strongest_disruption(changes, registry.by_kind(kind).disruption)
    entry = Entry(
        Action.UPDATE, key, "uid", changes=changes, disruption=strongest, active=active,
        narrows=tuple(narrowings(kind, old, new)),
    )  # fmt: skip
    plan = Plan("u", "r", (entry,), (), (), "sha256:0", 1)
    found = predict(plan, {key: ({}, old)}, {key: ({}, new)}, NOW)
    return [e for e in found if e.kind in (EffectKind.UPDATES, EffectKind.DRAINS, EffectKind.INTERRUPTS)]


@pytest.mark.parametrize(
    ("policy", "kind", "text"),
    [
        ("OnIdle", EffectKind.DRAINS, "holds when its 2 open runs ended"),
        ("Drain", EffectKind.DRAINS, "starts nothing until"),
        ("Immediate", EffectKind.INTERRUPTS, "stopped and begun again"),
        ("Manual", EffectKind.DRAINS, "waits for a request"),
    ],
)
def test_another_executor_drains_or_restarts_by_policy(policy: str, kind: EffectKind, text: str) -> None:
    new = {**AGENT, "executorRef": {"name": "other"}, "updatePolicy": policy}
    (effect,) = effects("Agent", AGENT, new, active=2)
    assert effect.kind is kind
    assert text in effect.message
    assert "the last good one serves while it is not healthy" in effect.message


def test_an_idle_agent_restarts_nothing() -> None:
    (effect,) = effects("Agent", AGENT, {**AGENT, "executorRef": {"name": "other"}})
    assert effect.kind is EffectKind.UPDATES
    assert "no restart: no run is open" in effect.message


def test_a_live_field_restarts_nothing_and_waits_for_nothing() -> None:
    (effect,) = effects("Agent", AGENT, {**AGENT, "maxConcurrentMissions": 3}, active=1)
    assert effect.message == "no restart: holds at the next decision"


def test_an_executor_is_taken_by_new_runs() -> None:
    (effect,) = effects("Executor", EXECUTOR, {**EXECUTOR, "command": {"argv": ["bash"]}})
    assert "open runs go on as they began" in effect.message


def test_a_tighter_spec_has_nothing_to_fall_back_on() -> None:
    new = {**AGENT, "executorRef": {"name": "other"}, "tools": [{"name": "a"}]}
    (effect,) = effects("Agent", AGENT, new, active=1)
    assert "it is tighter: nothing starts while it is not healthy" in effect.message
