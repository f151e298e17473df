"""What a working agent is asked: to stop, or to be the last."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from controllers.runs import records
from controllers.runs.inbox import notices
from schemas.hold import HoldSpec
from schemas.protocol import Notice, NoticeType
from schemas.resource import Declared, Resource
from schemas.run import RunState
from tests.fakes.runs import RunBench
from tests.fakes.stores import START


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[RunBench]:
    made = RunBench(tmp_path)
    yield made
    made.close()


def ask(bench: RunBench, run: Resource) -> tuple[Notice, ...]:
    with bench.store.snapshot() as snapshot:
        return notices(snapshot, bench.run(run.uid), bench.clock())


def hold(bench: RunBench, name: str = "pause", mode: str = "Drain", **spec: Any) -> Resource:
    wire = {"mode": mode, "reason": "release week", **spec}
    return bench.declare("Hold", name, HoldSpec.model_validate(wire).to_wire())


def test_nothing_is_asked_of_a_run_that_nothing_stops(bench: RunBench) -> None:
    assert ask(bench, bench.order(state=RunState.RUNNING)) == ()


def test_a_request_to_stop_is_there_until_the_end(bench: RunBench) -> None:
    run = bench.order(state=RunState.RUNNING)
    with bench.tx() as tx:
        records.request_cancel(tx, run, "Reassigned")
    bench.clock.tick(60)
    (notice,) = ask(bench, run)
    assert notice == Notice(id=f"cancel/{run.uid}", type=NoticeType.CANCEL, reason="Reassigned", since=START)
    assert ask(bench, run) == (notice,)


@pytest.mark.parametrize(
    "target",
    [
        {"scope": "Global"},
        {"scope": "Tenant"},
        {"selector": {"kinds": ["Agent"], "names": ["work-1-agent"]}},
        {"selector": {"kinds": ["Agent"], "matchLabels": {"team": "docs"}}},
        {"selector": {"kinds": ["Mission"], "names": ["work-1"]}},
        {"selector": {"kinds": ["Executor"], "names": ["work-1-local"]}},
    ],
)
def test_a_hold_that_drains_it_is_told(bench: RunBench, target: dict[str, Any]) -> None:
    run = bench.order(state=RunState.RUNNING)
    placed = hold(bench, until="2026-11-21T10:00:00Z", **target)
    (notice,) = ask(bench, run)
    assert (notice.id, notice.type, notice.reason) == (f"drain/{placed.uid}", NoticeType.DRAIN, "release week")
    assert notice.until == START + timedelta(hours=1)
    bench.clock.tick(3600)
    assert ask(bench, run) == ()


def test_holds_on_others_and_other_modes_are_not_told(bench: RunBench) -> None:
    run = bench.order(state=RunState.RUNNING)
    hold(bench, "a", selector={"kinds": ["Agent"], "names": ["another"]})
    hold(bench, "b", mode="Hold", scope="Global")
    assert ask(bench, run) == ()


def test_a_hold_on_the_project_of_the_mission_counts(bench: RunBench) -> None:
    run = bench.order(state=RunState.RUNNING)
    with bench.tx() as tx:
        mission = tx.get_by_uid(run.spec["missionUid"])
        assert mission is not None
        spec = {**mission.spec, "projectRef": {"name": "handbook"}}
        tx.put_spec(mission, Declared("Mission", "default", mission.name, spec))
    hold(bench, selector={"kinds": ["Project"], "names": ["handbook"]})
    assert len(ask(bench, run)) == 1


def test_a_request_to_stop_comes_before_a_drain(bench: RunBench) -> None:
    run = bench.order(state=RunState.RUNNING)
    hold(bench, scope="Global")
    with bench.tx() as tx:
        records.request_cancel(tx, run, "Canceled")
    assert [n.type for n in ask(bench, run)] == [NoticeType.CANCEL, NoticeType.DRAIN]
