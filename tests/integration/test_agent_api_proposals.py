"""Proposals over real HTTP, by the client that agents use: what is refused, and how it is said."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from remit_client import Assignment, AsyncRun, RetryPolicy
from remit_client.errors import Conflict, RateLimited, Rejected

from controllers.reconcilers.proposing import Proposer
from schemas.resource import Resource
from tests.fakes import stores
from tests.fakes.agent_port import TOKENS, AgentPort, problem, serving
from tests.fakes.proposals import ALLOW, BUDGET, Proposing
from tests.fakes.runs import RunBench, UuidIds
from tests.fakes.world import World, agent, executor, mission

pytestmark = pytest.mark.asyncio

MORE: dict[str, Any] = {"kind": "Budget", "name": "worker-day", "edits": [{"field": "spec.limits.usd", "value": 8}]}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(stores, "CountedIds", lambda prefix="": UuidIds())  # tokens are minted for uids as they are
    made = World(tmp_path)
    made.commit(
        {
            "fleet.yaml": "---\n".join([executor(), agent(proposals=ALLOW), mission("audit")]),
            "budget.yaml": BUDGET,
        }
    )
    made.sync()
    yield made
    made.close()


@pytest_asyncio.fixture
async def port(world: World, tmp_path: Path) -> AsyncIterator[AgentPort]:
    bench = RunBench.__new__(RunBench)
    bench.store, bench.folder = world.store, tmp_path
    async with serving(bench, proposer=Proposer(world.store, world.readers, now=world.clock)) as made:
        yield made


@pytest.fixture
def run(world: World) -> Resource:
    return world.get("Run", "audit-1")


async def ask(port: AgentPort, run: Resource, body: dict[str, Any], key: str | None = None) -> Any:
    return await port.client.post("/agent/v1/proposals", json=body, headers=port.headers(run, key))


async def test_a_repeated_request_gets_the_same_proposal(port: AgentPort, run: Resource, world: World) -> None:
    first = await ask(port, run, MORE, "k1")
    assert first.status_code == 200, first.text
    again, other_key = await ask(port, run, MORE, "k1"), await ask(port, run, MORE, "k2")
    assert first.json() == again.json() == other_key.json()
    listed = await port.client.get("/agent/v1/proposals", headers=port.headers(run))
    assert [p["name"] for p in listed.json()["items"]] == [first.json()["proposal"]["name"]]
    problem(await ask(port, run, {**MORE, "reason": "else"}, "k1"), 422, "KeyReused")


async def test_a_refusal_says_what_is_allowed(port: AgentPort, run: Resource) -> None:
    wire = problem(await ask(port, run, {**MORE, "name": "other"}), 403, "NotAllowedToPropose")
    assert {"field": "allowed", "message": "Budget worker-*: spec.limits.usd, spec.limits.tokens"} in wire["errors"]


async def test_what_does_not_compile_is_said_with_its_place(port: AgentPort, run: Resource) -> None:
    body = {**MORE, "edits": [{"field": "spec.limits.usd", "value": {"much": True}}]}
    wire = problem(await ask(port, run, body), 422, "InvalidSpec")
    assert "budget.yaml:8:" in wire["errors"][0]["message"]


async def test_only_fields_below_spec_of_kinds_that_are_no_limits_have_a_form(port: AgentPort, run: Resource) -> None:
    for field in (
        "metadata.labels.team", "spec", "spec.", "spec.limits..usd", "spec/limits", "spec.limits.usd\n", "spec.a[0]",
        "../spec.limits.usd", "--spec.limits.usd",
    ):  # fmt: skip
        problem(await ask(port, run, {**MORE, "edits": [{"field": field, "value": 1}]}), 422, "Invalid")
    for name in ("../../etc/passwd", "--upload-pack=x", "a/b", "x" * 300, "HEAD", "a..b", ""):
        problem(await ask(port, run, {**MORE, "name": name}), 422, "Invalid")
    for kind in ("Policy", "Waiver", "Source", "Executor", "Tenant", "Hold", "Secret"):
        problem(await ask(port, run, {**MORE, "kind": kind}), 422, "Invalid")


async def test_the_client_of_agents_proposes_and_reads_the_answer(port: AgentPort, run: Resource, world: World) -> None:
    assignment = Assignment(url=port.url, run=run.uid, token=TOKENS.mint(run.uid), mission={"name": "audit"})
    async with AsyncRun(assignment, policy=RetryPolicy(window_s=1.0)) as mine:
        made = await mine.propose("Budget", "worker-day", {"spec.limits.usd": 8}, reason="The links are many.")
        await Proposing(world).rest()
        (found,) = await mine.proposals()
        assert (found["name"], found["state"], bool(found["commit"])) == (made["name"], "Pending", True)
        with pytest.raises(Rejected, match="may not propose"):
            await mine.propose("Budget", "worker-day", {"spec.window": "Month"})
        with pytest.raises(Conflict, match="there is no"):
            await mine.propose("Budget", "worker-week", {"spec.limits.usd": 8})
        await mine.propose("Budget", "worker-day", {"spec.limits.usd": 9})
        with pytest.raises(RateLimited, match="at most 2"):
            await mine.propose("Budget", "worker-day", {"spec.limits.usd": 10})
        await mine.complete("done", self_review="read")
    assert json.dumps(world.get("ApprovalRequest", made["name"]).spec)
