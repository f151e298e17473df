"""The wall clock jumps, and many files move at once: nothing starts twice, nothing is lost."""

from __future__ import annotations

from datetime import timedelta

import pytest

from schemas.mission import MissionState
from tests.fakes.world import World, agent, executor, mission

HOUR, YEAR = 3600.0, 365 * 86400.0


@pytest.mark.parametrize("back", [1.0, HOUR, 50 * YEAR], ids=["a leap second", "an hour", "to 1970"])
def test_a_wall_clock_that_goes_back_stops_no_work_and_starts_none_twice(world: World, back: float) -> None:
    world.commit({"f.yaml": executor() + "---\n" + agent(), "a.yaml": mission("a"), "b.yaml": mission("b")})
    world.sync()
    world.clock_set_back = True
    world.clock.tick(-back)
    world.settle()
    assert world.started == ["a-1"]
    world.finish("a-1")
    assert world.state("a") is MissionState.DONE
    assert world.started == ["a-1", "b-1"], "the place that is free is given out under the old time too"
    world.finish("b-1")
    world.clock.tick(back)
    world.settle()
    assert world.started == ["a-1", "b-1"]
    assert world.state("b") is MissionState.DONE


@pytest.mark.parametrize("ahead", [HOUR, YEAR], ids=["an hour", "a year"])
def test_a_wall_clock_that_goes_ahead_ends_holds_and_starts_nothing_twice(world: World, ahead: float) -> None:
    world.commit({"f.yaml": executor() + "---\n" + agent(maxConcurrentMissions=3), "a.yaml": mission("a")})
    world.sync()
    until = (world.now + timedelta(minutes=30)).isoformat()
    world.act("Hold", "pause", {"selector": {"names": ["worker"]}, "reason": "look", "until": until})
    world.commit({"b.yaml": mission("b")})
    world.sync()
    assert world.started == ["a-1"]
    world.clock.tick(ahead)
    world.settle()
    assert world.started == ["a-1", "b-1"]
    world.clock_set_back = True
    world.clock.tick(-ahead)
    world.settle()
    assert world.started == ["a-1", "b-1"]
    world.finish("a-1")
    assert world.state("a") is MissionState.DONE


def test_a_storm_of_moved_files_keeps_every_uid_and_starts_nothing(world: World) -> None:
    names = [f"m{n}" for n in range(60)]
    world.commit({"f.yaml": executor() + "---\n" + agent(maxConcurrentMissions=2)})
    world.commit({f"{name}.yaml": mission(name) for name in names})
    world.sync()
    uids = {name: world.get("Mission", name).uid for name in names}
    started = list(world.started)
    world.commit({f"moved/{name}.yaml": mission(name) for name in names}, delete=tuple(f"{n}.yaml" for n in names))
    world.sync()
    assert {name: world.get("Mission", name).uid for name in names} == uids
    assert world.started == started
    assert world.events("DeletionRequested") == []
