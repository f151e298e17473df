"""The client that agents use, against the server that the engine runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from remit_client import Assignment, AsyncRun, Conflict, NotInScope, RunOver, Usage

from controllers.runs import records
from controllers.runs.artifacts import ArtifactFiles
from controllers.runs.records import Ending
from controllers.runtime.clock import SystemClock
from schemas.resource import Resource
from schemas.run import RunReason, RunState
from tests.fakes.agent_port import TOKENS, AgentPort, serving
from tests.fakes.runs import RunBench

pytestmark = pytest.mark.asyncio


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[RunBench]:
    made = RunBench(tmp_path, now=SystemClock().now)
    yield made
    made.close()


@pytest.fixture
def run(bench: RunBench) -> Resource:
    return bench.order()


def assignment(port: AgentPort, run: Resource, name: str | None = None) -> Assignment:
    return Assignment(port.url, name or run.name, TOKENS.mint(run.uid))


async def test_an_agent_works_through_its_run(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port, AsyncRun(assignment(port, run)) as agent:
        await agent.progress("reading", percent=33.4, work_plan="1. read")
        await agent.usage(usd=0.1 + 0.2, input_tokens=10, output_tokens=3, model="m")
        await agent.artifact("log.txt", "all well")
        await agent.artifact("shot.png", b"\x89PNG\0")
        with pytest.raises(Conflict):
            await agent.artifact("log.txt", "other")
        await agent.complete(
            "# Done", self_review="checked", evidence=["log.txt", "shot.png"], usage=Usage(usd=Decimal("0.05"))
        )
        assert agent.ended
    status = bench.status(run.uid)
    assert (status.progress, status.percent, status.state) == ("reading", 33, RunState.RUNNING)
    assert (status.spend.usd, status.spend.input_tokens) == (Decimal("0.350001"), 10)
    assert [a.name for a in status.artifacts] == ["log.txt", "shot.png", "deliverable.md"]
    assert ArtifactFiles(bench.folder).read(run.uid, status.artifacts[1]) == b"\x89PNG\0"
    with bench.tx() as tx:
        records.finish(tx, run.uid, Ending(RunState.SUCCEEDED, RunReason.COMPLETED, exit_code=0))
    assert bench.status(run.uid).state is RunState.SUCCEEDED


async def test_an_agent_that_is_told_to_stop_hears_it_and_says_so(bench: RunBench, run: Resource) -> None:
    def cancel() -> None:
        with bench.tx() as tx:
            current = tx.get_by_uid(run.uid)
            assert current is not None
            records.request_cancel(tx, current, "Canceled")

    async with serving(bench) as port, AsyncRun(assignment(port, run), heartbeat_s=600) as agent:
        await port.until_waiting(1)
        await asyncio.to_thread(cancel)
        assert await agent.wait_canceled(120)
        assert agent.cancel_reason == "Canceled"
        await agent.fail("Canceled", "stopped on request")
    with bench.tx() as tx:
        records.finish(tx, run.uid, Ending(RunState.FAILED, RunReason.NON_ZERO_EXIT, "exit code 1", exit_code=1))
    assert bench.status(run.uid).state is RunState.CANCELED


async def test_an_agent_whose_run_has_ended_stops(bench: RunBench, run: Resource) -> None:
    def end() -> None:
        with bench.tx() as tx:
            records.finish(tx, run.uid, Ending(RunState.TIMED_OUT, RunReason.DEADLINE_EXCEEDED, "too long"))

    async with serving(bench) as port, AsyncRun(assignment(port, run), heartbeat_s=600) as agent:
        await port.until_waiting(1)
        await asyncio.to_thread(end)
        assert await agent.wait_canceled(120)
        with pytest.raises(RunOver, match="DeadlineExceeded"):
            await agent.progress("still here")


async def test_an_agent_sees_nothing_of_others(bench: RunBench, run: Resource) -> None:
    other = bench.order()
    async with serving(bench) as port, AsyncRun(assignment(port, run, other.name)) as agent:
        with pytest.raises(NotInScope):
            await agent.progress("hello")
    assert bench.status(other.uid).progress is None


async def test_heartbeats_come_by_themselves(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port, AsyncRun(assignment(port, run), heartbeat_s=0.5):
        async with asyncio.timeout(120):
            while bench.status(run.uid).last_heartbeat_time is None:
                await SystemClock().sleep(0.02)
    assert bench.status(run.uid).state is RunState.RUNNING
    assert [e.type for e in bench.events(run.uid)][:1] == ["RunStarted"]
