"""Every cell of level x risk x allowlist x budget x hold through the whole gate: store, ledger, holds and records."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from controllers.gate.asking import Asked
from controllers.gate.authorize import Gate
from controllers.runs.calls import on_top_account
from schemas.agent import AgentSpec
from schemas.authorize import DecisionWord
from schemas.base import Key
from schemas.budget import BudgetSpec
from schemas.hold import HoldSpec
from schemas.mission import Spend
from schemas.policy import PolicySpec, Verdict
from schemas.resource import Declared, Resource
from store.contract import Transaction
from tests.fakes.runs import RunBench
from tests.unit.test_policy_table import BUDGETS, CELLS, HOLDS, LEVELS, LISTS, RISKS, expected

WORDS = {Verdict.ALLOW: "allow", Verdict.REQUIRE_APPROVAL: "ask", Verdict.DENY: "deny"}
STATES = {"allow": "Allowed", "ask": "Asking", "deny": "Denied"}
BREACH = {"ask": "RequireApproval", "refuse": "BlockMission"}


class Undo(Exception):
    """Takes back what a cell did."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[RunBench]:
    made = RunBench(tmp_path)
    try:
        yield made
    finally:
        made.close()


def declare(tx: Transaction, kind: str, name: str, spec: dict[str, Any]) -> None:
    tx.create(Declared(kind, "default", name, spec), manager="git/default")


def surround(tx: Transaction, agent: str, budget: str, hold: str) -> None:
    """A budget without room, and a Hold, where the cell has one."""
    if budget != "within":
        spec = {"scope": {"agentRef": {"name": agent}}, "window": "Day", "limits": {"usd": "0.05"},
                "onBreach": BREACH[budget]}  # fmt: skip
        declare(tx, "Budget", "tight", BudgetSpec.model_validate(spec).to_wire())
    if hold != "none":
        spec = {"scope": "Tenant", "mode": hold, "reason": "look first"}
        declare(tx, "Hold", "all", HoldSpec.model_validate(spec).to_wire())


def prepared(bench: RunBench, level: str, risk: str, listed: str) -> tuple[Resource, str]:
    """A run of an agent of that level, and the Policy of the cell."""
    run = bench.order(reserve=None)
    shell = ["git status"] if listed in ("inside", "outside") else []
    rules = {"risk": {"shell_exec": risk, "sort_cards": risk}, "allowlists": {"shell": shell}}
    with bench.tx() as tx:
        declare(tx, "Policy", "house-rules", PolicySpec.model_validate(rules).to_wire())
        agent = tx.get_by_uid(str(run.spec["agentUid"]))
        assert agent is not None
        spec = AgentSpec.model_validate({**agent.spec, "autonomyLevel": level, "tools": [{"name": "*"}]})
        tx.put_spec(agent, Declared(agent.kind, agent.namespace, agent.name, spec.to_wire(), agent.labels))
    return run, agent.name


@pytest.mark.parametrize(("level", "risk", "listed"), list(itertools.product(LEVELS, RISKS, LISTS)))
def test_each_cell_of_the_table_comes_through_the_gate(bench: RunBench, level: str, risk: str, listed: str) -> None:
    run, agent = prepared(bench, level, risk, listed)
    gate = Gate()
    tool, args = ("sort_cards", {}) if listed == "touches nothing" else ("shell_exec", {"command": "git status"})
    if listed == "outside":
        args = {"command": "git log"}
    estimate = Spend(usd=Decimal("0.10"), source="Estimated")
    for budget, hold in itertools.product(BUDGETS, HOLDS):
        wanted = WORDS[expected(level, risk, listed, budget, hold)]
        with suppress(Undo), bench.tx() as tx:
            surround(tx, agent, budget, hold)
            decision = gate.authorize(tx, run.uid, Asked(tool, args, "k1", estimate=estimate))
            assert decision.decision == wanted, (budget, hold, decision)
            assert decision.risk == risk
            assert decision.reason
            assert decision.remedy or decision.decision is DecisionWord.ALLOW
            call = tx.get(Key("ToolCall", "default", decision.tool_call))
            assert call is not None
            assert call.state == STATES[wanted]
            assert len(tx.objects("ApprovalRequest")) == (1 if wanted == "ask" else 0)
            reserved = tx.balance(on_top_account(run.uid)).reserved.usd_micros
            assert reserved == (100_000 if wanted == "allow" else 0)
            (event,) = tx.events(types=["CallDecided"])
            assert event.reason == decision.code
            raise Undo


def test_the_table_through_the_gate_has_every_cell() -> None:
    assert len(CELLS) == 432
