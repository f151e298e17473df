"""remit simulate: what the specs would bring, without a look at the project's store."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cli.main import run
from controllers.simulation.assumptions import Assumptions, draw
from controllers.simulation.forecast import forecast
from schemas.errors import Refused
from tests.fakes.world import agent, executor, mission

BEGINS = datetime(2026, 11, 23, tzinfo=UTC)
EXACT = Assumptions(timedelta(minutes=10), Decimal("0.50"), spread=0.0, failures=0.0)
SCHEDULE = """\
apiVersion: remit.dev/v1alpha1
kind: Schedule
metadata: {name: hourly}
spec:
  schedule: "0 * * * *"
  concurrencyPolicy: Allow
  missionTemplate: {spec: {title: hourly work, agentRef: {name: worker}, review: None}}
"""
BUDGET = """\
apiVersion: remit.dev/v1alpha1
kind: Budget
metadata: {name: worker-day}
spec:
  scope: {agentRef: {name: worker}}
  window: Day
  limits: {usd: 1}
  onBreach: BlockMission
"""


def play(
    folder: Path, files: dict[str, str], *, assumed: Assumptions = EXACT, hours: int = 6, seed: int = 1
) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    made = forecast(folder, begins=BEGINS, length=timedelta(hours=hours, minutes=-30), seed=seed, assumed=assumed)
    return made.to_wire()


def test_schedules_places_and_money_are_those_of_the_engine(tmp_path: Path) -> None:
    files = {"e.yaml": executor(), "a.yaml": agent(autonomyLevel="Lead"), "s.yaml": SCHEDULE}
    told = play(tmp_path / "specs", files)
    assert (told["total"]["missions"], told["total"]["done"]) == (5, 5)
    assert Decimal(told["total"]["costUsd"]) == Decimal("2.5")
    assert set(told["makers"]) == {"schedule/hourly"}
    assert told["days"]["2026-11-23"]["missions"] == 5
    assert told["agents"]["default/worker"]["waitMax"] == "0s"
    assert told["limits"] == []


def test_a_limit_that_would_be_hit_is_named_with_its_moment(tmp_path: Path) -> None:
    files = {"e.yaml": executor(), "a.yaml": agent(autonomyLevel="Lead"), "s.yaml": SCHEDULE, "b.yaml": BUDGET}
    told = play(tmp_path / "specs", files)
    hit = next(limit for limit in told["limits"] if limit["kind"] == "no room")
    assert hit["at"] < "2026-11-23T04"
    assert told["total"]["done"] < 4
    assert any(m["waitsFor"] == "Budget" for m in told["open"])
    assert told["total"]["waitedFor"]["Budget"]


def test_waiting_is_told_by_what_it_was_for(tmp_path: Path) -> None:
    missions = {f"{n}.yaml": mission(f"m{n}") for n in range(3)} | {
        "d.yaml": mission("after", dependsOn="[{name: m0}]")
    }
    told = play(tmp_path / "specs", {"e.yaml": executor(), "a.yaml": agent(autonomyLevel="Lead"), **missions})
    group = told["agents"]["default/worker"]
    assert (group["done"], group["waitMax"]) == (4, "30m")
    assert {"Capacity", "Dependency"} <= set(group["waitedFor"])


@pytest.mark.parametrize(("after", "done"), [(timedelta(hours=1), 1), (None, 0)])
def test_people_are_asked_and_answer_when_assumed(tmp_path: Path, after: timedelta | None, done: int) -> None:
    assumed = Assumptions(timedelta(minutes=10), Decimal("0.1"), 0.0, 0.0, after)
    files = {"e.yaml": executor(), "a.yaml": agent(), "m.yaml": mission("m", review="Human")}
    told = play(tmp_path / "specs", files, assumed=assumed)
    assert (told["approvals"], told["total"]["done"]) == ({"Review": 1}, done)


def test_annotations_say_what_a_run_takes(tmp_path: Path) -> None:
    notes = "remit.dev/simulate-duration: 2h, remit.dev/simulate-cost: '0.01'"
    files = {"e.yaml": executor(), "a.yaml": agent(), "m.yaml": mission("m", annotations=notes)}
    told = play(tmp_path / "specs", files, assumed=EXACT)
    assert told["total"]["failed"] + told["total"]["open"] >= 1, "the executor's timeout is 30 minutes"
    bad = {**files, "m.yaml": mission("m", annotations="remit.dev/simulate-failures: '7'")}
    with pytest.raises(Refused, match="between 0 and 1"):
        play(tmp_path / "bad", bad)


def test_what_is_drawn_depends_on_seed_and_name_alone() -> None:
    assumed = Assumptions()
    assert draw(1, "default/a-1", assumed) == draw(1, "default/a-1", assumed)
    assert draw(1, "default/a-1", assumed) != draw(2, "default/a-1", assumed)
    drawn = [draw(1, f"default/r-{n}", assumed) for n in range(2000)]
    middle = sorted(d.duration for d in drawn)[1000]
    assert timedelta(minutes=4, seconds=30) < middle < timedelta(minutes=5, seconds=30)
    assert 0.03 < sum(d.fails for d in drawn) / 2000 < 0.07


def test_the_verb_gives_the_same_answer_twice_and_leaves_the_project_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "specs"
    folder.mkdir()
    for name, text in {"e.yaml": executor(), "a.yaml": agent(), "m.yaml": mission("m")}.items():
        (folder / name).write_text(text)
    arguments = ["simulate", str(folder), "--for", "2h", "--from", "2026-11-23", "--seed", "7"]

    def remit(*more: str) -> str:
        capsys.readouterr()
        assert run([*arguments, *more]) == 0
        return capsys.readouterr().out

    first = remit("-o", "json")
    assert remit("-o", "json") == first
    assert json.loads(first)["assumptions"]["duration"]["flag"] == "--duration"
    told = remit("-o", "markdown")
    assert "### Assumed, not known" in told
    assert "| default/worker | 1 | 1 |" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["specs"]
    (folder / "bad.yaml").write_text("kind: Nonsense\n")
    assert run(arguments) == 2
    assert "validate" in capsys.readouterr().err
