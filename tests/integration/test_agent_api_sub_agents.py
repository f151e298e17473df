"""Sub-agents over real HTTP: keys that open one run, limits, and the end of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from controllers.reconcilers import sub_agents
from controllers.runtime.clock import SystemClock
from schemas.base import Key
from schemas.conditions import set_condition
from schemas.executor import ExecutorStatus
from schemas.quantities import format_time
from schemas.resource import Declared, Resource
from schemas.run import RunState
from tests.fakes.agent_port import AgentPort, problem, serving
from tests.fakes.runs import RunBench

pytestmark = pytest.mark.asyncio

COMPLETE: dict[str, Any] = {
    "deliverable": {"name": "deliverable.md", "mediaType": "text/markdown", "text": "# Done\n"},
    "selfReview": "Every figure was checked.",
}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[RunBench]:
    made = RunBench(tmp_path, now=SystemClock().now)
    yield made
    made.close()


@pytest.fixture
def run(bench: RunBench) -> Resource:
    """A run whose agent may spawn."""
    made = bench.order(state=RunState.RUNNING)
    with bench.tx() as tx:
        agent = tx.get(Key("Agent", "default", "work-1-agent"))
        assert agent is not None
        more = {"autonomyLevel": "Lead", "subAgents": {**agent.spec["subAgents"], "allowed": True}}
        tx.put_spec(agent, Declared(*agent.key, {**agent.spec, **more}, agent.labels))
        executor = tx.get(Key("Executor", "default", "work-1-local"))
        assert executor is not None
        ready = set_condition((), "Ready", True, "Reconciled", now=tx.now, generation=1)
        tx.put_status(executor, ExecutorStatus(conditions=ready, observed_generation=1).to_wire())
    return made


@pytest_asyncio.fixture
async def port(bench: RunBench) -> AsyncIterator[AgentPort]:
    async with serving(bench) as made:
        yield made


async def spawn(port: AgentPort, run: Resource, name: str, **wish: Any) -> httpx2.Response:
    return await port.post(run, "sub-agents", {"name": name, "title": f"do {name}", **wish})


async def as_sub_agent(port: AgentPort, key: str, run: str, verb: str, body: Any = None) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": f"{verb}-1"}
    return await port.client.post(f"/agent/v1/runs/{run}/{verb}", json=body or {}, headers=headers)


def watch(bench: RunBench, agent: str) -> None:
    """A pass of the engine over a sub-agent."""
    with bench.tx() as tx:
        sub_agents.reconcile(tx, Key("SubAgent", "default", agent))


async def test_a_key_opens_the_run_of_its_sub_agent_and_no_other(port: AgentPort, run: Resource) -> None:
    answer = await spawn(port, run, "inline", hosted=True)
    assert answer.status_code == 200, answer.text
    wire = answer.json()
    key, hosted = wire["key"], wire["hostedRun"]
    assert (await as_sub_agent(port, key, hosted, "progress", {"message": "reading"})).status_code == 200
    problem(await as_sub_agent(port, key, run.uid, "progress", {"message": "x"}), 404, "NotFound")
    problem(await as_sub_agent(port, key, "no-such-run", "heartbeat"), 404, "NotFound")
    problem(await as_sub_agent(port, key[:-1] + "x", hosted, "heartbeat"), 401, "TokenInvalid")
    assert (await port.post(run, "heartbeat")).status_code == 200
    problem(await port.client.post(f"/agent/v1/runs/{hosted}/heartbeat", headers=port.headers(run)), 404, "NotFound")


async def test_a_key_is_dead_at_its_time_before_anybody_cleans_up(
    bench: RunBench, port: AgentPort, run: Resource
) -> None:
    wire = (await spawn(port, run, "inline", hosted=True)).json()
    key, hosted = wire["key"], wire["hostedRun"]
    assert (await as_sub_agent(port, key, hosted, "heartbeat")).status_code == 200
    with bench.tx() as tx:
        current = tx.get_by_uid(hosted)
        assert current is not None
        tx.put_status(current, {**current.status, "hostedUntil": format_time(tx.now)})
    problem(await as_sub_agent(port, key, hosted, "heartbeat"), 401, "TokenDead")


async def test_a_key_dies_with_its_last_word_and_with_terminate(
    bench: RunBench, port: AgentPort, run: Resource
) -> None:
    for name, by_parent in (("one", False), ("two", True)):
        wire = (await spawn(port, run, name, hosted=True)).json()
        key, hosted = wire["key"], wire["hostedRun"]
        if by_parent:
            answer = await port.post(run, "terminate", {"subAgent": name, "reason": "Enough"})
        else:
            answer = await as_sub_agent(port, key, hosted, "complete", COMPLETE)
        assert answer.status_code == 200, answer.text
        watch(bench, wire["subAgent"]["agent"])
        problem(await as_sub_agent(port, key, hosted, "heartbeat"), 401, "TokenDead")
        assert bench.status(hosted).state == (RunState.CANCELED if by_parent else RunState.SUCCEEDED)


async def test_the_limits_of_spawning(port: AgentPort, run: Resource) -> None:
    for number in range(3):
        assert (await spawn(port, run, f"s{number}")).status_code == 200
    full = await spawn(port, run, "s3")
    problem(full, 429, "TooManySubAgents")
    assert int(full.headers["retry-after"]) >= 1
    problem(await spawn(port, run, "s0"), 409, "NameTaken")
    problem(await spawn(port, run, "s4", tools=["shell_exec"]), 409, "ToolsBeyondParent")
    problem(await spawn(port, run, "Not A Name"), 422, "Invalid")
    problem(await port.post(run, "terminate", {"subAgent": "nobody"}), 404, "NotFound")
    listed = await port.client.get(f"/agent/v1/runs/{run.uid}/sub-agents", headers=port.headers(run))
    assert [item["name"] for item in listed.json()["items"]] == ["s0", "s1", "s2"]


async def test_a_repeated_request_gives_the_same_key(port: AgentPort, run: Resource) -> None:
    body = {"name": "inline", "title": "do it", "hosted": True}
    answers = [await port.post(run, "sub-agents", body, key="same") for _ in range(3)]
    assert len({a.json()["key"] for a in answers}) == 1
    assert {a.status_code for a in answers} == {200}
    problem(await port.post(run, "sub-agents", {**body, "title": "other"}, key="same"), 422, "KeyReused")


async def test_a_hundred_at_once_get_as_many_places_as_there_are(port: AgentPort, run: Resource) -> None:
    answers = await asyncio.gather(*(spawn(port, run, f"s{number}") for number in range(40)))
    assert sorted(a.status_code for a in answers) == [200] * 3 + [429] * 37
