"""A follow-up is told to the run that is at work, or starts the next one; and sessions end. In virtual time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controllers.runs import chat, inbox, messages, reports, sessions
from controllers.runs.once import Once
from schemas.base import Key
from schemas.mission import MissionState
from schemas.resource import SYSTEM, Resource
from tests.fakes.endings import again, ends, hands_in
from tests.fakes.world import ALICE, World, agent, executor, mission

pytestmark = pytest.mark.parametrize("backend", ["sqlite"])


def fleet(world: World, *names: str, **fields: object) -> None:
    files = {"fleet.yaml": executor().replace("Text", "Remit") + "---\n" + agent(maxConcurrentMissions="9")}
    world.commit(files | {"m.yaml": "---\n".join(mission(n, **fields) for n in names or ("a",))})
    world.sync()


def follow_up(world: World, after_s: float, text: str = "look again", run: str = "a-1", *, say: bool = False) -> None:
    with world.store.transaction(SYSTEM) as tx:
        messages.asks_follow_up(
            tx, world.get("Run", run).uid, timedelta(seconds=after_s), text, say=say, once=Once.of(text, b"")
        )
    world.settle()


def leave(world: World, run: str = "a-1") -> None:
    """The agent ends its run until its follow-up is due."""
    with world.store.transaction(SYSTEM) as tx:
        uid = world.get("Run", run).uid
        reports.fail(tx, uid, "AwaitingFollowUp", "until the build is done", retryable=True, once=Once.of("end", b""))
    ends(world, run)


def person_says(world: World, text: str, about: str = "a") -> None:
    with world.store.transaction(ALICE) as tx:
        subject = tx.get(Key("Mission", "default", about))
        assert subject is not None
        chat.say(tx, subject, ALICE, text, key=text)
    world.settle()


def told(world: World, run: str) -> list[str]:
    with world.store.snapshot() as snapshot:
        found = inbox.notices(snapshot, world.get("Run", run), world.now)
    return [n.text or "" for n in found if n.id.startswith(inbox.MESSAGE)]


def session(world: World, run: str = "a-1") -> Resource:
    return world.get("Session", sessions.key_of(world.get("Run", run)).name)


def test_the_next_run_starts_when_the_follow_up_is_due_and_is_told_of_it(world: World) -> None:
    fleet(world)
    follow_up(world, 600)
    leave(world)
    assert (world.state("a"), world.status("a").attempts) == (MissionState.IN_PROGRESS, 0)
    [waits] = world.status("a").blocked_on
    assert (waits.type, waits.until) == ("FollowUp", world.now + timedelta(seconds=600))
    world.advance(599.9)
    world.restart()
    assert world.started == ["a-1"]
    world.advance(0.2)
    assert world.started == ["a-1", "a-2"]
    assert told(world, "a-2") == ["look again"]
    assert world.status("a").attempts == 1
    assert world.get("Agent", "worker").status["errorStreak"] == 0
    hands_in(world, "a-2")
    assert world.state("a") is MissionState.DONE
    world.check()


def test_a_run_that_is_at_work_is_told_and_no_other_starts(world: World) -> None:
    fleet(world)
    follow_up(world, 5)
    world.advance(6)
    assert (told(world, "a-1"), world.started) == (["look again"], ["a-1"])


def test_a_word_of_a_person_ends_the_wait_and_the_follow_up(world: World) -> None:
    fleet(world)
    follow_up(world, 600)
    leave(world)
    person_says(world, "it is done already")
    assert world.started == ["a-1", "a-2"]
    assert told(world, "a-2") == ["it is done already"]
    assert session(world).status["followUps"] == []
    world.advance(700)
    assert world.started == ["a-1", "a-2"]
    world.check()


def test_one_that_came_due_before_the_end_was_booked_starts_the_next_run_at_once(world: World) -> None:
    fleet(world)
    follow_up(world, 5)
    world.advance(6)
    leave(world)
    assert world.started == ["a-1", "a-2"]
    assert world.status("a").attempts == 1


def test_who_waits_for_nothing_has_failed(world: World) -> None:
    fleet(world, retry="{maxAttempts: 1}")
    follow_up(world, 60, say=True)  # said to people; the agent is told of nothing
    leave(world)
    assert (world.state("a"), world.started) == (MissionState.FAILED, ["a-1"])


def test_a_message_that_is_never_taken_starts_one_run_and_not_one_after_another(world: World) -> None:
    fleet(world)
    follow_up(world, 600)
    world.advance(1)
    person_says(world, "hello")  # cancels the follow-up, and is left in the inbox
    follow_up(world, 600, "again")
    leave(world)
    assert world.started == ["a-1", "a-2"], "it came while the run was at work"
    world.advance(1)
    leave(world, "a-2")
    world.advance(300)
    assert world.started == ["a-1", "a-2"]
    world.advance(301)
    assert world.started == ["a-1", "a-2", "a-3"]


def test_a_hold_keeps_the_next_run_from_starting_until_it_ends(world: World) -> None:
    fleet(world)
    follow_up(world, 60)
    leave(world)
    world.act("Hold", "wait", {"selector": {"kinds": ["Agent"], "names": ["worker"]}, "mode": "Hold", "reason": "x"})
    world.advance(120)
    assert world.started == ["a-1"]
    world.remove("Hold", "wait")
    assert world.started == ["a-1", "a-2"]


def test_a_person_may_have_it_go_on_at_once(world: World) -> None:
    fleet(world)
    follow_up(world, 600)
    leave(world)
    again(world, "a")
    assert world.started == ["a-1", "a-2"]


def test_an_agent_that_keeps_coming_back_for_nothing_is_contained(world: World) -> None:
    fleet(world)
    for number in range(1, 30):
        if world.state("a") is not MissionState.IN_PROGRESS:
            break
        run = f"a-{number}"
        follow_up(world, 10, f"again {number}", run)
        leave(world, run)
        world.advance(11)
    assert world.state("a") is MissionState.BLOCKED


def test_sessions_close_with_the_mission_and_open_again_with_a_new_round(world: World) -> None:
    fleet(world, "a", "b")
    for run in ("a-1", "b-1"):
        follow_up(world, 3, run=run)
    world.advance(4)
    hands_in(world, "a-1")
    assert (session(world).state, session(world, "b-1").state) == ("Closed", "Open")
    assert session(world).status["closedAt"]
    world.restart()
    assert session(world).state == "Closed"
    again(world, "a")
    follow_up(world, 3, "once more", "a-2")
    assert session(world).state == "Open"
    assert "closedAt" not in session(world).status or session(world).status["closedAt"] is None
    world.check()


def test_a_session_in_which_nothing_is_said_for_a_day_closes_and_the_next_word_opens_it(world: World) -> None:
    fleet(world, review="Human")
    follow_up(world, 3)
    world.advance(4)
    hands_in(world, "a-1")
    assert world.state("a") is MissionState.REVIEW
    world.advance(23 * 3600)
    world.restart()
    assert session(world).state == "Open"
    world.advance(2 * 3600)
    world.restart()
    assert session(world).state == "Closed"
    person_says(world, "what about it?")
    assert session(world).state == "Open"
