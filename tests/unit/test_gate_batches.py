"""Calls that are decided together: each gets its own answer, and a fault of one is not the others'."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from controllers.gate.asking import Asked
from controllers.gate.authorize import Gate
from controllers.gate.batches import Batches, Outcome, decide_all
from controllers.runtime.blocking import ThreadBlocking
from schemas.agent import AgentSpec
from schemas.authorize import Decision
from schemas.errors import NotFound, Refused, StoreUnavailable
from schemas.resource import Declared, Resource
from schemas.run import RunState
from store.contract import Transaction
from tests.fakes.runs import RunBench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[RunBench]:
    made = RunBench(tmp_path)
    try:
        yield made
    finally:
        made.close()


def run_of(bench: RunBench, state: RunState = RunState.RUNNING) -> Resource:
    run = bench.order(state=state)
    with bench.tx() as tx:
        agent = tx.get_by_uid(str(run.spec["agentUid"]))
        assert agent is not None
        wire = AgentSpec.model_validate({**agent.spec, "autonomyLevel": "Lead", "tools": [{"name": "*"}]}).to_wire()
        tx.put_spec(agent, Declared(agent.kind, agent.namespace, agent.name, wire, agent.labels))
    return run


def words(outcomes: list[Outcome]) -> list[str]:
    return [o.decision if isinstance(o, Decision) else type(o).__name__ for o in outcomes]


def read(key: str, path: str = "a") -> Asked:
    return Asked("read_file", {"path": path}, key)


def test_each_call_of_a_batch_gets_its_own_answer_and_its_own_name_in_the_log(bench: RunBench) -> None:
    one, two, ended = run_of(bench), run_of(bench), run_of(bench, RunState.FAILED)
    calls = [
        (one.uid, read("k1")),
        (ended.uid, read("k1")),
        ("nobody", read("k1")),
        (two.uid, read("k1")),
        (one.uid, read("k1")),
        (one.uid, read("k1", "b")),
        (two.uid, Asked("push_tag", {}, "k2")),
    ]
    found = decide_all(bench.store, Gate(), calls)
    assert words(found) == ["allow", "Refused", "NotFound", "allow", "allow", "Refused", "ask"]
    assert isinstance(found[1], Refused)
    assert isinstance(found[2], NotFound)
    assert found[0] == found[4], "asked again in the same batch"
    with bench.store.snapshot() as snapshot:
        assert len(snapshot.objects("ToolCall")) == 3
        actors = [(e.subject_uid, e.actor.subject) for e in snapshot.events(types=["CallDecided"])]
    mine = {str(run.spec["agentRef"]["name"]) for run in (one, two)}
    assert {actor.rpartition("/")[2] for _, actor in actors} == mine


def test_a_fault_in_the_middle_of_a_batch_costs_that_call_only(bench: RunBench) -> None:
    run = run_of(bench)

    class Broken(Gate):
        def authorize(self, tx: Transaction, run_uid: str, asked: Asked) -> Decision:
            decision = super().authorize(tx, run_uid, asked)
            if asked.key == "bad":
                raise NotADirectoryError("a fault of ours, after it was written")
            return decision

    calls = [(run.uid, read(key)) for key in ("k1", "bad", "k2")]
    assert words(decide_all(bench.store, Broken(), calls)) == ["allow", "NotADirectoryError", "allow"]
    with bench.store.snapshot() as snapshot:
        assert sorted(c.spec["idempotencyKey"] for c in snapshot.objects("ToolCall")) == ["k1", "k2"]


@pytest.mark.asyncio
async def test_many_calls_at_once_are_all_answered_in_few_transactions(bench: RunBench) -> None:
    runs = [run_of(bench) for _ in range(3)]
    blocking = ThreadBlocking(2)
    batches = Batches(bench.store, Gate(), blocking)
    commits: list[int] = []
    unsubscribe = bench.store.subscribe(commits.append)
    try:
        work = [batches.decide(runs[n % 3].uid, read(f"k{n}")) for n in range(60)]
        found = await asyncio.gather(*work)
        with pytest.raises(NotFound):
            await batches.decide("nobody", read("k"))
    finally:
        unsubscribe()
        blocking.close(wait=True)
    assert {d.decision for d in found} == {"allow"}
    assert len({d.decision_id for d in found}) == 60
    assert len(commits) <= 4


@pytest.mark.asyncio
async def test_a_store_that_does_not_answer_is_told_to_everybody_who_waits(bench: RunBench) -> None:
    run = run_of(bench)
    blocking = ThreadBlocking(1)
    batches = Batches(bench.store, Gate(), blocking)
    bench.store.close()
    try:
        work = [batches.decide(run.uid, read(f"k{n}")) for n in range(3)]
        found = await asyncio.gather(*work, return_exceptions=True)
    finally:
        blocking.close(wait=True)
    assert [type(each) for each in found] == [StoreUnavailable] * 3
