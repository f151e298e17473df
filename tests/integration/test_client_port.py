"""The client against the agent port as the engine runs it: both sides mean the same protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from remit_client import Assignment, AsyncRun, Conflict, NotInScope, Problem, RetryPolicy, RunOver, Usage

from controllers.runs import records
from schemas.resource import Resource
from schemas.run import RunReason, RunState
from tests.fakes.agent_port import TOKENS, AgentPort, serving
from tests.fakes.runs import RunBench

QUICK = RetryPolicy(window_s=5, first_s=0.01, longest_s=0.1)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[RunBench]:
    bench = RunBench(tmp_path)
    yield bench
    bench.close()


def opened(port: AgentPort, run: Resource, *, name: str = "", heartbeat_s: float = 0.2) -> AsyncRun:
    assignment = Assignment(port.url, name or run.uid, TOKENS.mint(run.uid), {})
    return AsyncRun(assignment, policy=QUICK, heartbeat_s=heartbeat_s)


@pytest.mark.asyncio
async def test_everything_that_a_run_reports_is_recorded(bench: RunBench) -> None:
    ordered = bench.order(state=RunState.RUNNING)
    async with serving(bench) as port, opened(port, ordered) as run:
        await run.progress("reading", percent=12.4, work_plan="Read, then write.")
        await run.usage(usd=0.01, input_tokens=5, output_tokens=7, model="m")
        await run.artifact("logs/build.txt", "line")
        await run.artifact("raw.bin", b"\x00\xff")
        await run.complete(
            "# Done\n",
            self_review="read twice",
            evidence=["logs/build.txt"],
            usage=Usage(usd="0.02", source="Estimated"),
        )
    status = bench.status(ordered.uid)
    assert (status.progress, status.percent, status.work_plan) == ("reading", 12, "Read, then write.")
    assert {a.name for a in status.artifacts} >= {"logs/build.txt", "raw.bin"}
    assert status.deliverable is not None
    assert (status.deliverable.name, status.deliverable.text) == ("deliverable.md", "# Done\n")
    assert status.report is not None
    assert (status.report.outcome, status.report.self_review) == ("Complete", "read twice")
    assert f"{status.spend.usd}" == "0.03"


@pytest.mark.asyncio
async def test_a_failure_is_recorded_with_its_reason(bench: RunBench) -> None:
    ordered = bench.order(state=RunState.RUNNING)

    async def work(port: AgentPort) -> None:
        async with opened(port, ordered):
            raise ValueError("hunter2")

    async with serving(bench) as port:
        with pytest.raises(ValueError, match="hunter2"):
            await work(port)
    report = bench.status(ordered.uid).report
    assert report is not None
    assert (report.outcome, report.reason, report.retryable) == ("Fail", "ValueError", True)
    assert "hunter2" not in report.message


@pytest.mark.asyncio
async def test_refusals_arrive_as_the_classes_they_are(bench: RunBench) -> None:
    ordered, other = bench.order(state=RunState.RUNNING), bench.order(state=RunState.RUNNING)
    async with serving(bench) as port, opened(port, ordered) as run:
        with pytest.raises(Problem, match="complete"):
            await run.complete("x", self_review="y", evidence=["never-sent"])
        assert not run.ended
        async with opened(port, ordered, name=other.name) as stray:
            with pytest.raises(NotInScope):
                await stray.progress("x")
            stray._ended = True
        await run.complete("x", self_review="y")


@pytest.mark.asyncio
async def test_a_cancel_reaches_the_agent_with_its_reason(bench: RunBench) -> None:
    ordered = bench.order(state=RunState.RUNNING)
    async with serving(bench) as port, opened(port, ordered, heartbeat_s=0.5) as run:
        assert not await run.wait_canceled(0.1)
        with bench.tx() as tx:
            records.request_cancel(tx, ordered, "Reassigned")
        assert await run.wait_canceled(120)
        async with asyncio.timeout(120):
            while not run.cancel_reason:
                await run.heartbeat()
        assert run.cancel_reason == "Reassigned"
        await run.fail("Canceled", "as asked")


@pytest.mark.asyncio
async def test_a_run_that_has_ended_is_over_for_its_agent(bench: RunBench) -> None:
    ordered = bench.order(state=RunState.RUNNING)
    async with serving(bench) as port, opened(port, ordered) as run:
        await run.progress("x")
        with bench.tx() as tx:
            records.finish(
                tx, ordered.uid, records.Ending(state=RunState.CANCELED, reason=RunReason.CANCELED, message="stopped")
            )
        assert await run.wait_canceled(120)
        with pytest.raises(RunOver):
            await run.progress("y")


@pytest.mark.asyncio
async def test_a_second_completion_with_other_content_is_refused(bench: RunBench) -> None:
    ordered = bench.order(state=RunState.RUNNING)
    async with serving(bench) as port:
        async with opened(port, ordered) as run:
            await run.complete("first", self_review="y")
        async with opened(port, ordered) as again:
            await again.complete("first", self_review="y")
        async with opened(port, ordered) as other:
            with pytest.raises((Conflict, Problem)):
                await other.complete("second", self_review="y")
            other._ended = True
    deliverable = bench.status(ordered.uid).deliverable
    assert deliverable is not None
    assert deliverable.text == "first"
