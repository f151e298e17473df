"""Missions proposed over real HTTP: what is refused how, and what a repetition gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from controllers.runtime.clock import SystemClock
from schemas.base import Key
from schemas.resource import Declared
from schemas.run import RunState
from tests.fakes.agent_port import problem, serving
from tests.fakes.runs import RunBench

pytestmark = pytest.mark.asyncio


async def test_a_mission_is_proposed_within_limits(tmp_path: Path) -> None:
    bench = RunBench(tmp_path, now=SystemClock().now)
    run = bench.order(state=RunState.RUNNING)
    body = {"name": "more", "title": "do more", "budget": {"usd": "0.01"}}
    async with serving(bench) as port:
        problem(await port.post(run, "missions", body, key="1"), 403, "NotAllowedToPropose")
        with bench.tx() as tx:
            agent = tx.get(Key("Agent", "default", "work-1-agent"))
            assert agent is not None
            may = {"proposals": {"missions": {"types": [], "agents": [], "maxOpen": 1, "maxPerDay": 5}}}
            tx.put_spec(agent, Declared(*agent.key, {**agent.spec, **may}, agent.labels))
        answers = [await port.post(run, "missions", body, key="2") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200], answers[0].text
        assert answers[0].json()["mission"]["accepted"] is False
        problem(await port.post(run, "missions", {**body, "name": "Not One"}, key="3"), 422, "Invalid")
        full = await port.post(run, "missions", {**body, "name": "other"}, key="4")
        problem(full, 429, "TooManyProposals")
        assert int(full.headers["retry-after"]) >= 1
        listed = await port.client.get(f"/agent/v1/runs/{run.uid}/missions", headers=port.headers(run))
        assert [item["title"] for item in listed.json()["items"]] == ["do more"]
    bench.close()
