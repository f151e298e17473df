"""Schedules in a whole engine under a moved clock: fires, catch-up, concurrency, history, Holds, deletion, restarts."""

from __future__ import annotations

from datetime import timedelta

import pytest

from schemas.mission import MissionState
from schemas.resource import Resource
from schemas.run import RunState
from schemas.schedule import ScheduleStatus
from tests.fakes.world import World, agent, executor

HOUR = 3600.0


def schedule(name: str = "hourly", *, times: str = "0 * * * *", template: str = "", **spec: object) -> str:
    fields = "".join(f"  {key}: {value}\n" for key, value in spec.items())
    return (
        f"apiVersion: remit.dev/v1alpha1\nkind: Schedule\nmetadata: {{name: {name}}}\nspec:\n"
        f'  schedule: "{times}"\n{fields}'
        "  missionTemplate:\n    metadata: {labels: {kind-of: report}}\n    spec: "
        f"{{title: look around, review: None, agentRef: {{name: worker}}{template}}}\n"
    )


def begin(world: World, **spec: object) -> None:
    """At half past an hour, so that the first fire is 30 minutes away."""
    world.clock.tick((30 - world.now.minute) % 60 * 60 - world.now.second - world.now.microsecond / 1e6)
    world.commit({"e.yaml": executor(), "a.yaml": agent(maxConcurrentMissions=10), "s.yaml": schedule(**spec)})
    world.sync()


def missions(world: World) -> list[Resource]:
    with world.store.snapshot() as snapshot:
        return snapshot.objects("Mission")


def names(world: World) -> list[str]:
    return [m.name for m in missions(world)]


def status(world: World) -> ScheduleStatus:
    return ScheduleStatus.model_validate(world.get("Schedule", "hourly").status)


def minute(world: World, hours: float = 0.0) -> str:
    return f"hourly-{world.now + timedelta(hours=hours):%Y%m%d%H%M}"


def test_each_fire_makes_one_mission_that_is_done_and_kept_as_declared(world: World) -> None:
    begin(world, successfulHistoryLimit=2)
    assert missions(world) == []
    assert world.reason("Schedule", "hourly", "Ready") == "True/Reconciled"
    assert len(status(world).next_fire_times) == 5
    for _ in range(4):
        world.advance(HOUR)
        (open_one,) = [m for m in missions(world) if m.state == MissionState.IN_PROGRESS]
        assert open_one.labels["kind-of"] == "report"
        assert open_one.owner_uid == world.get("Schedule", "hourly").uid
        assert status(world).active == (open_one.name,)
        world.finish(f"{open_one.name}-1")
    assert len(world.started) == 4
    assert len(names(world)) == 2, "two are kept"
    found = status(world)
    assert (found.active, found.missed) == ((), 0)
    assert found.last_successful_time is not None
    assert [e.reason for e in world.events("ScheduleFired")] == ["OnTime"] * 4
    assert len(world.events("DeletionRequested")) == 2
    with world.store.snapshot() as snapshot:
        assert snapshot.verify_events().broken_seq == 0


@pytest.mark.parametrize(("catch_up", "made", "missed"), [("Skip", 0, 3), ("Last", 1, 2), ("All", 3, 0)])
def test_conformance_22_an_engine_that_was_down_for_three_hours_catches_up_as_declared(
    world: World, catch_up: str, made: int, missed: int
) -> None:
    begin(world, catchUp=catch_up)
    world.clock.tick(3 * HOUR + 600)  # nobody looks
    world.restart()
    assert len(names(world)) == made
    assert status(world).missed == missed
    for _ in range(3):  # and again, and again: no double fire
        world.restart()
    assert len(names(world)) == made
    assert status(world).missed == missed
    reasons = {e.reason for e in world.events("ScheduleFired")}
    assert reasons <= {"CaughtUp"}
    assert sum(e.data["count"] for e in world.events("FireSkipped")) == missed


def test_a_storm_of_schedules_that_are_due_at_once_makes_each_mission_once(world: World) -> None:
    world.clock.tick((30 - world.now.minute) % 60 * 60 - world.now.second - world.now.microsecond / 1e6)
    storm = "---\n".join(schedule(f"s{n}") for n in range(60))
    world.commit({"e.yaml": executor(), "a.yaml": agent(suspend="true"), "s.yaml": storm})
    world.sync()
    world.clock.tick(HOUR)
    world.restart()
    world.restart()
    assert len(names(world)) == 60
    assert len(world.events("ScheduleFired")) == 60
    assert world.started == []


def test_a_clock_that_is_set_back_fires_nothing_twice(world: World) -> None:
    begin(world)
    world.advance(HOUR)
    before = names(world)
    assert len(before) == 1
    world.clock.tick(-2 * HOUR)
    world.clock_set_back = True
    world.restart()
    world.advance(2 * HOUR)
    assert names(world) == before
    world.advance(HOUR)
    assert len(names(world)) == 2


def test_forbid_skips_and_says_so(world: World) -> None:
    begin(world, concurrencyPolicy="Forbid")
    world.advance(2 * HOUR)
    (only,) = names(world)
    assert world.reason("Schedule", "hourly", "Ready") == "True/StillActive"
    (skipped,) = world.events("FireSkipped")
    assert (skipped.reason, skipped.data["count"]) == ("StillActive", 1)
    world.finish(f"{only}-1")
    world.advance(HOUR)
    assert len(world.started) == 2


def test_forbid_with_all_takes_one_after_the_other(world: World) -> None:
    begin(world, concurrencyPolicy="Forbid", catchUp="All")
    world.clock.tick(3 * HOUR + 600)
    world.restart()
    for count in (1, 2, 3):
        assert len(world.started) == count
        world.finish(world.started[-1])
    assert (len(world.started), status(world).missed) == (3, 0)


def test_replace_cancels_the_old_one_first(world: World) -> None:
    begin(world, concurrencyPolicy="Replace", failedHistoryLimit=5)
    world.advance(HOUR)
    (old,) = names(world)
    world.advance(HOUR)
    assert world.canceled == [f"{old}-1"]
    world.finish(f"{old}-1", state=RunState.CANCELED)
    assert world.state(old) is MissionState.CANCELED
    (new,) = status(world).active
    assert world.started == [f"{old}-1", f"{new}-1"]


def test_suspended_or_held_it_makes_nothing_and_catches_up_when_it_goes_on(world: World) -> None:
    begin(world, suspend="true")
    world.advance(2 * HOUR)
    assert names(world) == []
    assert world.reason("Schedule", "hourly", "Ready") == "False/Suspended"
    world.commit({"s.yaml": schedule()})
    world.sync()
    assert len(names(world)) == 1
    world.act("Hold", "quiet", {"scope": "Global", "reason": "a demonstration"})
    assert world.reason("Schedule", "hourly", "Ready") == "False/Held"
    world.advance(2 * HOUR)
    assert len(names(world)) == 1
    world.remove("Hold", "quiet")
    assert world.reason("Schedule", "hourly", "Ready") in ("True/Missed", "True/Reconciled")
    assert len(names(world)) == 2
    assert status(world).missed == 2, "one while it was suspended, one while it was held"


def test_new_times_count_from_now(world: World) -> None:
    begin(world)
    world.clock.tick(600)
    world.commit({"s.yaml": schedule(times="*/10 * * * *")})
    world.sync()
    assert names(world) == [], "what would have been due under the new times was never promised"
    world.advance(600)
    assert len(names(world)) == 1


def test_a_mission_of_somebody_else_under_that_name_is_left_alone(world: World) -> None:
    begin(world)
    taken = minute(world, 0.5)
    world.act("Mission", taken, {"title": "mine", "review": "None", "agentRef": {"name": "worker"}})
    world.advance(HOUR)
    assert world.get("Mission", taken).spec["title"] == "mine"
    assert [e.reason for e in world.events("FireSkipped")] == ["NameTaken"]
    assert status(world).missed == 1
    world.advance(HOUR)
    assert len(names(world)) == 2


def test_an_agent_that_is_not_there_is_named_and_found_once_it_is(world: World) -> None:
    world.commit({"e.yaml": executor(), "a.yaml": agent()})
    world.sync()
    world.act(
        "Schedule",
        "hourly",
        {"schedule": "@hourly", "missionTemplate": {"spec": {"title": "x", "agentRef": {"name": "later"}}}},
    )
    assert world.reason("Schedule", "hourly", "Ready") == "False/ReferenceNotFound"
    world.commit({"b.yaml": agent("later")})
    world.sync()
    assert world.reason("Schedule", "hourly", "Ready") == "True/Reconciled"


def test_deleting_it_deletes_its_missions_first(world: World) -> None:
    begin(world)
    world.advance(HOUR)
    (open_one,) = names(world)
    world.commit(delete=("s.yaml",))
    world.sync()
    assert world.reason("Schedule", "hourly", "Ready") == "False/Deleting"
    assert world.canceled == [f"{open_one}-1"]
    world.finish(f"{open_one}-1", state=RunState.CANCELED)
    assert (names(world), world.find("Schedule", "hourly")) == ([], None)
    with world.store.snapshot() as snapshot:
        assert snapshot.timers(due_before=world.now + timedelta(days=400)) == []
