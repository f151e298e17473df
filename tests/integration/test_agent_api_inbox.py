"""The inbox: what the engine asks comes at once, to whoever waits, and nobody is left waiting at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from controllers.runs import records
from controllers.runs.records import Ending
from controllers.runtime.clock import SystemClock
from schemas.errors import StoreUnavailable
from schemas.hold import HoldSpec
from schemas.resource import Resource
from schemas.run import RunReason, RunState
from tests.fakes.agent_port import WAKES_S, AgentPort, problem, serving
from tests.fakes.runs import RunBench

pytestmark = pytest.mark.asyncio


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[RunBench]:
    made = RunBench(tmp_path, now=SystemClock().now)
    yield made
    made.close()


@pytest.fixture
def run(bench: RunBench) -> Resource:
    return bench.order(state=RunState.RUNNING)


def cancel(bench: RunBench, run: Resource, reason: str = "Canceled") -> None:
    with bench.tx() as tx:
        current = tx.get_by_uid(run.uid)
        assert current is not None
        records.request_cancel(tx, current, reason)


def drain(bench: RunBench) -> Resource:
    wire = {"mode": "Drain", "scope": "Global", "reason": "release week"}
    return bench.declare("Hold", "pause", HoldSpec.model_validate(wire).to_wire())


async def waiting(port: AgentPort, run: Resource, wait: int = 50, **params: str) -> asyncio.Task[httpx2.Response]:
    """A long poll that has arrived, and waits."""
    task = asyncio.create_task(port.inbox(run, wait, **params))
    await port.until_waiting(port.waiting() + 1)
    assert not task.done()
    return task


async def test_an_empty_inbox_answers_at_once_when_nobody_wants_to_wait(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        answer = await asyncio.wait_for(port.inbox(run), WAKES_S)
        assert answer.json() == {"items": []}


async def test_a_wait_ends_after_its_time(bench: RunBench, run: Resource) -> None:
    loop = asyncio.get_running_loop()
    async with serving(bench) as port:
        begun = loop.time()
        assert (await port.inbox(run, 1)).json() == {"items": []}
        assert 0.9 < loop.time() - begun < WAKES_S


async def test_a_request_to_stop_reaches_who_waits_at_once(bench: RunBench, run: Resource) -> None:
    loop = asyncio.get_running_loop()
    async with serving(bench) as port:
        poll = await waiting(port, run)
        begun = loop.time()
        await asyncio.to_thread(cancel, bench, run)
        (item,) = (await poll).json()["items"]
        assert loop.time() - begun < WAKES_S
        assert (item["id"], item["type"], item["reason"]) == (f"cancel/{run.uid}", "Cancel", "Canceled")
        assert (await port.post(run, "heartbeat")).json()["cancel"] is True


async def test_what_another_process_writes_is_noticed_too(bench: RunBench, run: Resource) -> None:
    other = RunBench(bench.folder, now=SystemClock().now)
    try:
        async with serving(bench) as port:
            poll = await waiting(port, run)
            await asyncio.to_thread(cancel, other, run)
            answer = await asyncio.wait_for(poll, WAKES_S)
            assert [i["type"] for i in answer.json()["items"]] == ["Cancel"]
    finally:
        other.close()


async def test_a_hold_reaches_everybody_it_concerns(bench: RunBench, run: Resource) -> None:
    other = bench.order(state=RunState.RUNNING)
    async with serving(bench) as port:
        polls = [await waiting(port, run), await waiting(port, other)]
        hold = await asyncio.to_thread(drain, bench)
        for poll in polls:
            (item,) = (await asyncio.wait_for(poll, WAKES_S)).json()["items"]
            assert (item["id"], item["type"], item["reason"]) == (f"drain/{hold.uid}", "Drain", "release week")


async def test_what_was_acknowledged_does_not_end_the_next_wait(bench: RunBench, run: Resource) -> None:
    hold = drain(bench)
    async with serving(bench) as port:
        assert len((await port.inbox(run, 50)).json()["items"]) == 1
        poll = await waiting(port, run, ack=f"drain/{hold.uid}")
        await asyncio.to_thread(cancel, bench, run)
        answer = await asyncio.wait_for(poll, WAKES_S)
        assert [i["type"] for i in answer.json()["items"]] == ["Cancel"]


async def test_the_end_of_the_run_ends_its_wait(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        poll = await waiting(port, run)

        def end() -> None:
            with bench.tx() as tx:
                records.finish(tx, run.uid, Ending(RunState.TIMED_OUT, RunReason.DEADLINE_EXCEEDED, "too long"))

        await asyncio.to_thread(end)
        problem(await asyncio.wait_for(poll, WAKES_S), 401, "TokenDead")


async def test_what_happens_to_others_wakes_nobody(bench: RunBench, run: Resource) -> None:
    other = bench.order(state=RunState.RUNNING)
    async with serving(bench) as port:
        poll = await waiting(port, run)
        for number in range(20):
            assert (await port.post(other, "progress", {"message": f"{number}"})).status_code == 200
        assert not poll.done()
        poll.cancel()


async def test_the_wait_has_a_limit(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        for wait in (51, -1):
            wire = problem(await port.inbox(run, wait), 422, "Invalid")
            assert wire["errors"][0]["field"] == "wait"


async def test_one_run_waits_a_few_times_at_once_only(bench: RunBench, run: Resource) -> None:
    async with serving(bench, polls=2) as port:
        polls = [await waiting(port, run) for _ in range(2)]
        answer = await port.inbox(run, 50)
        problem(answer, 429, "TooManyAtOnce")
        assert int(answer.headers["retry-after"]) >= 1
        for poll in polls:
            poll.cancel()


async def test_who_hangs_up_leaves_the_place_to_others(bench: RunBench, run: Resource) -> None:
    async with serving(bench, polls=1) as port:
        for _ in range(5):
            poll = await waiting(port, run)
            poll.cancel()
            await port.until_waiting(0)
        assert (await port.inbox(run, 0)).status_code == 200


async def test_a_server_that_stops_lets_everybody_go_within_three_seconds(bench: RunBench, run: Resource) -> None:
    others = [bench.order(state=RunState.RUNNING) for _ in range(20)]
    async with serving(bench) as port:
        took = []
        while len(took) < 5 and (not took or took[-1] >= 3):  # the best of some: others use the machine, too
            if took:
                await port.restart()
            polls = [asyncio.create_task(port.inbox(r, 50)) for r in [run, *others] for _ in range(3)]
            await port.until_waiting(63)
            took.append(await port.stop())
            answers = await asyncio.gather(*polls)
            assert {a.status_code for a in answers} == {200}
            assert all(a.json() == {"items": []} for a in answers)
        assert min(took) < 3


async def test_a_server_that_starts_again_lets_people_wait_again(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        await port.restart()
        poll = await waiting(port, run)
        await asyncio.to_thread(cancel, bench, run)
        answer = await asyncio.wait_for(poll, WAKES_S)
        assert [i["type"] for i in answer.json()["items"]] == ["Cancel"]


async def test_a_fault_while_news_are_read_does_not_silence_them(
    bench: RunBench, run: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = iter([KeyError("x"), StoreUnavailable("busy")])
    healthy = bench.store.cursor

    def cursor() -> int:
        for fault in faults:
            raise fault
        return healthy()

    async with serving(bench) as port:
        poll = await waiting(port, run)
        monkeypatch.setattr(bench.store, "cursor", cursor)
        await asyncio.to_thread(cancel, bench, run)
        answer = await asyncio.wait_for(poll, WAKES_S)
        assert [i["type"] for i in answer.json()["items"]] == ["Cancel"]
