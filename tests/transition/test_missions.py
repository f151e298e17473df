"""Missions from declaration to verdict."""

from __future__ import annotations

from schemas.mission import MissionState
from schemas.run import RunState
from tests.fakes.world import World, agent, executor, mission


def test_a_mission_runs_and_is_done(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a")})
    world.sync()
    assert world.started == ["a-1"]
    assert world.state("a") is MissionState.IN_PROGRESS
    world.finish("a-1")
    assert world.state("a") is MissionState.DONE
    status = world.status("a")
    assert status.deliverable is not None
    assert status.deliverable.text == "done"
    assert status.review is not None
    assert status.review.actor == "policy:spec.review: None (m.yaml:1)"
    assert [f"{t.from_state}->{t.to_state}" for t in status.transitions] == [
        "Inbox->Assigned",
        "Assigned->InProgress",
        "InProgress->Review",
        "Review->Done",
    ]


def test_a_mission_without_agent_stays_in_the_inbox_and_says_so(world: World) -> None:
    world.commit({"m.yaml": mission("a", agent=None)})
    world.sync()
    assert world.state("a") is MissionState.INBOX
    assert "remit assign" in world.status("a").blocked_on[0].hint


def test_a_failure_is_retried_after_its_pause_and_then_succeeds(world: World) -> None:
    retry = "{maxAttempts: 3, backoff: {initial: 10s, jitter: 0}}"
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a", retry=retry)})
    world.sync()
    world.finish("a-1", state=RunState.FAILED)
    assert world.state("a") is MissionState.IN_PROGRESS
    assert world.status("a").blocked_on[0].type == "Retry"
    world.advance(9)
    assert world.started == ["a-1"]
    world.advance(2)
    assert world.started == ["a-1", "a-2"]
    world.finish("a-2")
    assert world.state("a") is MissionState.DONE


def test_used_up_attempts_end_in_the_dead_letter(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a", retry="{maxAttempts: 2}")})
    world.sync()
    world.finish("a-1", state=RunState.FAILED)
    world.advance(60)
    world.finish("a-2", state=RunState.FAILED)
    assert world.state("a") is MissionState.FAILED
    assert world.reason("Mission", "a", "Succeeded") == "False/RetriesExhausted"


def test_a_failure_that_cannot_be_cured_is_not_retried(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a", retry="{maxAttempts: 5}")})
    world.sync()
    world.finish("a-1", state=RunState.FAILED, retryable=False)
    assert world.reason("Mission", "a", "Succeeded") == "False/NotRetryable"


def test_a_place_goes_to_the_highest_priority(world: World) -> None:
    files = {"fleet.yaml": executor() + "---\n" + agent()}
    files |= {f"{n}.yaml": mission(n, priority=p) for n, p in (("low", "Low"), ("high", "High"), ("mid", "Medium"))}
    world.commit(files)
    world.sync()
    for run in ("high-1", "mid-1", "low-1"):
        assert world.started[-1] == run
        world.finish(run)


def test_an_old_mission_overtakes_a_fresh_one_of_higher_priority(world: World) -> None:
    world.commit(
        {"fleet.yaml": executor() + "---\n" + agent(), "x.yaml": mission("x"), "old.yaml": mission("old", priority=20)}
    )
    world.sync()
    assert world.started == ["old-1"] or world.started == ["x-1"]
    first = world.started[0]
    world.advance(400 * 60)
    world.commit({"fresh.yaml": mission("fresh", priority=55)})
    world.sync()
    world.finish(first)
    other = {"old-1": "x-1", "x-1": "old-1"}[first]
    assert world.started == [first, other]


def test_a_review_waits_for_a_person_and_an_approval_ends_it(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a", review="Human")})
    world.sync()
    world.finish("a-1")
    assert world.state("a") is MissionState.REVIEW
    assert world.status("a").blocked_on[0].hint == "remit approve mission/a"
    world.answer("a", reason="good")
    assert world.state("a") is MissionState.DONE
    review = world.status("a").review
    assert review is not None
    assert (review.actor, review.transport, review.reason) == ("user:alice", "Store", "good")


def test_requested_changes_reach_the_next_run(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a", review="Human")})
    world.sync()
    world.finish("a-1")
    world.answer("a", "ChangesRequested", "name the sources")
    assert world.started == ["a-1", "a-2"]
    assert world.get("Run", "a-2").spec["feedback"] == "name the sources"
    world.finish("a-2", text="with sources")
    world.answer("a")
    assert world.state("a") is MissionState.DONE


def test_a_denied_review_blocks_until_a_person_unblocks(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a", review="Human")})
    world.sync()
    world.finish("a-1")
    world.answer("a", "Deny", "no")
    assert world.state("a") is MissionState.BLOCKED
    world.answer("a")
    assert world.state("a") is MissionState.IN_PROGRESS
    assert world.started == ["a-1", "a-2"]
    world.finish("a-2")
    world.answer("a")
    assert world.state("a") is MissionState.DONE


def test_a_review_that_nobody_answers_is_reminded_once_and_parked(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a", review="Human")})
    world.sync()
    world.finish("a-1")
    world.advance(60 * 3600)
    assert [e.reason for e in world.events("ApprovalRequested")] == ["Review", "Reminder"]
    world.advance(60 * 3600)
    assert world.state("a") is MissionState.BLOCKED
    assert len(world.events("ApprovalExpired")) == 1


def test_placeholders_send_a_deliverable_back(world: World) -> None:
    evidence = "{gates: [NoPlaceholders]}"
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a", evidence=evidence)})
    world.sync()
    world.finish("a-1", text="TODO: write this")
    assert world.state("a") is MissionState.FAILED
    failure = world.status("a").failure
    assert failure is not None
    assert failure.reason == "RequirementsMissing"
    assert "NoPlaceholders line 1" in failure.message


def test_a_dependency_becoming_done_wakes_its_dependents(world: World) -> None:
    files = {"fleet.yaml": executor() + "---\n" + agent(), "b.yaml": mission("b", dependsOn="[{name: a}]")}
    world.commit(files | {"a.yaml": mission("a")})
    world.sync()
    assert world.started == ["a-1"]
    assert world.status("b").blocked_on[0].type == "Dependency"
    world.finish("a-1")
    assert world.started == ["a-1", "b-1"]


def test_a_lost_run_that_may_be_repeated_is_tried_again(world: World) -> None:
    world.commit(
        {
            "fleet.yaml": executor() + "---\n" + agent(),
            "m.yaml": mission("a", retry="{maxAttempts: 2, idempotent: true}"),
        }
    )
    world.sync()
    world.finish("a-1", state=RunState.LOST)
    world.advance(60)
    assert world.started == ["a-1", "a-2"]


def test_an_unknown_outcome_waits_for_a_person_and_is_not_retried(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a", retry="{maxAttempts: 9}")})
    world.sync()
    world.finish("a-1", state=RunState.UNKNOWN, message="nobody knows")
    world.advance(3600)
    assert world.state("a") is MissionState.BLOCKED
    assert world.started == ["a-1"]
    world.answer("a", "Deny", "give it up")
    assert world.state("a") is MissionState.CANCELED


def test_cancel_stops_the_run_before_the_mission_ends(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a")})
    world.sync()
    world.commit({"m.yaml": mission("a", desiredState="Canceled")})
    world.sync()
    assert world.canceled == ["a-1"]
    assert world.state("a") is MissionState.IN_PROGRESS
    world.finish("a-1", state=RunState.CANCELED)
    assert world.state("a") is MissionState.CANCELED


def test_a_worker_that_does_not_stop_ends_as_may_still_be_running(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a")})
    world.sync()
    world.commit({"m.yaml": mission("a", desiredState="Canceled")})
    world.sync()
    world.advance(300)
    run = world.get("Run", "a-1")
    assert (run.state, run.status["reason"]) == ("Unknown", "MayStillBeRunning")
    assert world.state("a") is MissionState.CANCELED


def test_a_mission_that_takes_longer_than_its_deadline_fails(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a", deadline="10m")})
    world.sync()
    world.advance(11 * 60)
    assert world.canceled == ["a-1"]
    world.finish("a-1", state=RunState.CANCELED)
    assert world.state("a") is MissionState.FAILED
    assert world.reason("Mission", "a", "Succeeded") == "False/DeadlineExceeded"


def test_a_reassigned_mission_drains_the_old_attempt_first(world: World) -> None:
    fleet = executor() + "---\n" + agent() + "---\n" + agent("other")
    world.commit({"fleet.yaml": fleet, "m.yaml": mission("a")})
    world.sync()
    world.commit({"m.yaml": mission("a", agent="other")})
    world.sync()
    assert world.canceled == ["a-1"]
    assert world.started == ["a-1"]
    world.finish("a-1", state=RunState.CANCELED)
    assert world.started == ["a-1", "a-2"]
    assert world.get("Run", "a-2").spec["agentRef"]["name"] == "other"


def test_a_selector_picks_an_agent_with_a_free_place(world: World) -> None:
    def labelled(name: str) -> str:
        return agent(name).replace(f"{{name: {name}}}", f"{{name: {name}, labels: {{team: x}}}}", 1)

    fleet = "---\n".join([executor(), labelled("one"), labelled("two")])
    missions = {f"{n}.yaml": mission(n, agent=None, agentSelector="{matchLabels: {team: x}}") for n in ("a", "b")}
    world.commit({"fleet.yaml": fleet, **missions})
    world.sync()
    agents = {world.get("Run", run).spec["agentRef"]["name"] for run in world.started}
    assert agents == {"one", "two"}
