"""Approvals of actions: who may answer, what a leave covers, and what the mission does meanwhile. Scenarios 16, 17, 18
and 19 of the reconcile semantics, as far as the store is concerned; those of git are in test_provenance."""

from __future__ import annotations

import pytest

from schemas.mission import MissionState
from schemas.run import RunReason, RunState
from tests.fakes.consent import Office, policy, tenant
from tests.fakes.world import World

HOURS = 3600.0


@pytest.fixture
def office(world: World) -> Office:
    return Office(world)


# The life of one leave.


def test_a_mission_waits_for_leave_and_goes_on_with_it(office: Office) -> None:
    world = office.world
    request = office.ask()
    assert world.state("a") is MissionState.NEEDS_APPROVAL
    assert world.reason("Mission", "a", "Approved") == "Unknown/AwaitingApproval"
    (blocker,) = world.status("a").blocked_on
    assert (blocker.type, blocker.ref) == ("Approval", f"ApprovalRequest/default/{request.name}")
    assert office.act() is None
    office.answer(request)
    assert world.state("a") is MissionState.IN_PROGRESS
    assert world.status("a").action_requests == ()
    outcome = office.act()
    assert outcome is not None
    assert outcome.granted
    world.finish("a-1")
    assert world.state("a") is MissionState.DONE
    world.check()


def test_a_leave_is_used_once(office: Office) -> None:
    request = office.ask()
    office.answer(request)
    assert office.act() is not None
    assert office.act() is None
    assert office.acts == ["mail"]
    status = office.world.get("ApprovalRequest", request.name).status
    assert (status["state"], status["uses"]) == ("Approved", 1)
    assert office.world.reason("ApprovalRequest", request.name, "Succeeded") == "True/Consumed"
    assert len(office.world.events("LeaveUsed")) == 1


def test_the_same_act_asked_again_uses_nothing_more(office: Office) -> None:
    office.answer(office.ask())
    first, second = office.act(key="call"), office.act(key="call")
    assert first is not None
    assert second is not None
    assert (first.repeated, second.granted, second.repeated) == (False, True, True)
    assert office.acts == ["mail"]


def test_scenario_16_leave_for_one_action_lets_no_other_through(office: Office) -> None:
    request = office.ask("mail to ann")
    office.answer(request)
    assert office.act("mail to everybody") is None
    assert office.act("mail to ann") is not None
    assert office.acts == ["mail to ann"]


def test_a_crash_before_the_commit_uses_nothing_and_loses_nothing(office: Office) -> None:
    office.answer(office.ask())
    assert office.act(crash=True) is None
    office.world.restart()
    assert office.act() is not None
    assert office.acts == ["mail"]


def test_a_leave_that_nobody_used_ends_with_the_life_of_its_request(office: Office) -> None:
    request = office.ask()
    office.answer(request)
    office.world.advance(112 * HOURS)
    assert office.state(request) == "Expired"
    assert office.act() is None


def test_an_answer_brings_the_mission_back_whoever_refuses(office: Office) -> None:
    request = office.ask()
    office.answer(request, verdict="Deny", reason="not today")
    assert office.world.state("a") is MissionState.IN_PROGRESS
    assert office.world.status("a").transitions[-1].message == "not today"
    assert office.act() is None


# Scenario 17: refused, each with its reason.


def test_scenario_17_who_asks_cannot_approve(world: World) -> None:
    office = Office(world, policy(quorum=1), tenant(ada="Approver", bob="Approver"))
    with world.store.transaction(_by("ada")) as tx:
        mission = tx.get(world.get("Mission", "a").key)
        assert mission is not None
        from schemas.resource import Declared

        declared = Declared("Mission", "default", "own", {**mission.spec, "title": "own"})
        tx.create(declared, manager="cli/ada")
    world.settle()
    world.finish("a-1")
    run = world.get("Run", "own-1")
    request = _ask_for(office, run.name)
    assert request.spec["authors"] == ["user:ada"]
    assert office.judged(office.answer(request, "ada")) == "False/SelfApproval"
    assert office.judged(office.answer(request, "ada")) == "False/SelfApproval"
    with world.store.snapshot() as snapshot:
        [alert] = snapshot.objects("Alert")
    assert (alert.spec["type"], alert.state, alert.status["count"]) == ("SecurityViolation", "Open", 2)
    assert office.judged(office.answer(request, "ada", "Deny", reason="no")) == "True/Counted"
    assert world.get("Alert", alert.name).state == "Open", "a person settles it"


def _by(name: str):  # type: ignore[no-untyped-def]
    from schemas.resource import Actor, ActorKind

    return Actor(ActorKind.HUMAN, f"user:{name}", "Store")


def _ask_for(office: Office, run: str):  # type: ignore[no-untyped-def]
    class Other(Office):
        @property
        def run(self):  # type: ignore[no-untyped-def]
            return self.world.get("Run", run)

    other = Other.__new__(Other)
    other.world, other.acts, other._count = office.world, office.acts, 100
    return other.ask()


@pytest.mark.parametrize("transport", ["Email", "", "Source"])
def test_scenario_17_what_proves_nobody_has_no_effect(office: Office, transport: str) -> None:
    request = office.ask()
    assert office.judged(office.answer(request, transport=transport)) == "False/IdentityUnproven"
    assert office.judged(office.answer(request, "")) == "False/IdentityUnproven"
    assert office.act() is None


def test_scenario_17_an_answer_that_comes_too_late_has_expired(office: Office) -> None:
    request = office.ask()
    office.world.clock.tick(111 * HOURS)
    assert office.judged(office.answer(request)) == "False/Expired"
    assert office.act() is None


def test_scenario_17_a_leave_is_taken_back_before_its_use_and_not_after(office: Office) -> None:
    first = office.ask("one")
    office.answer(first)
    assert office.judged(office.answer(first, "bob", "Revoke")) == "True/Counted"
    assert office.act("one") is None
    second = office.ask("two")
    office.answer(second)
    office.act("two")
    assert office.judged(office.answer(second, "bob", "Revoke")) == "False/AlreadyConsumed"
    assert office.acts == ["two"]


def test_scenario_17_an_answer_to_another_digest_is_stale(office: Office) -> None:
    request, other = office.ask("one"), office.ask("two")
    decision = office.answer(request, digest=str(other.spec["actionDigest"]))
    assert office.judged(decision) == "False/StaleDecision"
    assert office.state(request) == office.state(other) == "Pending"


def test_scenario_17_somebody_without_the_role_is_refused(world: World) -> None:
    office = Office(world, tenant(ada="Approver", vic="Viewer", otto="Operator", root="Admin"))
    request = office.ask()
    for who in ("vic", "otto", "stranger"):
        assert office.judged(office.answer(request, who)) == "False/NotAnApprover"
        assert office.judged(office.answer(request, who, "Deny")) == "False/NotAnApprover"
    assert office.judged(office.answer(request, "root")) == "True/Counted"


# Scenario 18: several people.


def test_scenario_18_two_approvers_at_once_lose_no_update_and_give_one_leave(office: Office) -> None:
    request = office.ask()
    answers = [office.answer(request, who, settle=False) for who in ("ada", "bob")]
    office.world.settle()
    assert sorted(map(office.judged, answers)) == ["False/AlreadyDecided", "True/Counted"]
    office.act()
    assert office.act() is None
    assert office.acts == ["mail"]


def test_scenario_18_two_of_two_are_both_kept(world: World) -> None:
    office = Office(world, policy(quorum=2))
    request = office.ask()
    assert request.status["quorum"] == "0/2"
    answers = [office.answer(request, who, settle=False) for who in ("ada", "bob")]
    world.settle()
    assert sorted(map(office.judged, answers)) == ["True/AwaitingQuorum", "True/Counted"]
    status = world.get("ApprovalRequest", request.name).status
    assert (status["quorum"], status["state"]) == ("2/2", "Approved")
    assert sorted(a["subject"] for a in status["approvals"]) == ["user:ada", "user:bob"]
    assert office.act() is not None


@pytest.mark.parametrize("twin", ["ada", "ada@example.org"])
def test_one_person_counts_once(world: World, twin: str) -> None:
    office = Office(world, policy(quorum=2))
    request = office.ask()
    office.answer(request, "ada")
    assert office.judged(office.answer(request, twin, transport="Git")) == "False/AlreadyDecided"
    assert office.act() is None
    office.answer(request, "bob@example.org", transport="Git")
    assert office.act() is not None


@pytest.mark.parametrize("order", [("Approve", "Deny"), ("Deny", "Approve")])
def test_a_denial_wins_until_the_leave_is_used(office: Office, order: tuple[str, str]) -> None:
    request = office.ask()
    for who, verdict in zip(("ada", "bob"), order, strict=True):
        office.answer(request, who, verdict, settle=False)
    office.world.settle()
    assert office.state(request) == "Denied"
    assert office.act() is None


# How far a leave reaches.


def test_leave_for_a_session_covers_the_same_action_in_it(office: Office) -> None:
    request = office.ask()
    office.answer(request, scope="Session")
    assert [office.act() is not None for _ in range(3)] == [True, True, True]
    assert office.act("other") is None
    office.world.finish("a-1", state=RunState.FAILED)
    assert office.acts == ["mail"] * 3


def test_leave_for_a_session_ends_with_the_session(world: World) -> None:
    office = Office(world, retry="{maxAttempts: 2, backoff: {initial: 1s, jitter: 0}}")
    office.answer(office.ask(), scope="Session")
    world.finish("a-1", state=RunState.FAILED)
    world.advance(2)
    assert office.run.name == "a-2"
    assert office.act() is None


def test_leave_until_a_time_ends_then_and_can_be_taken_back(office: Office) -> None:
    until = office.world.now.timestamp() + 2 * HOURS
    from datetime import UTC, datetime

    request = office.ask()
    office.answer(request, scope="Until", until=datetime.fromtimestamp(until, UTC).isoformat())
    assert office.act() is not None
    assert office.act() is not None
    office.world.advance(2 * HOURS)
    assert office.act() is None
    again = office.ask()
    office.answer(again, scope="Until", until=datetime.fromtimestamp(until + 9000, UTC).isoformat())
    assert office.act() is not None
    assert office.judged(office.answer(again, "bob", "Revoke")) == "True/Counted"
    assert office.act() is None


def test_of_several_scopes_the_narrowest_counts(world: World) -> None:
    office = Office(world, policy(quorum=2))
    request = office.ask()
    office.answer(request, "ada", scope="Session")
    office.answer(request, "bob")
    assert office.act() is not None
    assert office.act() is None


# What policies say.


def test_policies_say_how_people_are_asked(world: World) -> None:
    text = policy(
        timeout="10h", quorum=2, onTimeout="Deny", approvers="{roles: [], subjects: ['user:ada', 'user:bob']}"
    )
    office = Office(world, text)
    request = office.ask()
    assert request.status["mayAnswer"] == "user:ada, user:bob"
    assert office.judged(office.answer(request, "carol")) == "False/NotAnApprover"
    world.advance(5 * HOURS)
    assert [e.reason for e in world.events("ApprovalRequested")][-1] == "Reminder"
    world.advance(5 * HOURS)
    assert office.state(request) == "Expired"
    assert world.state("a") is MissionState.IN_PROGRESS


def test_a_policy_tightened_after_the_question_holds_for_the_answer(world: World) -> None:
    office = Office(world)
    request = office.ask()
    world.commit({"p.yaml": policy(quorum=2)})
    world.sync()
    assert office.judged(office.answer(request, "ada")) == "True/AwaitingQuorum"
    assert office.judged(office.answer(request, "bob")) == "True/Counted"


def test_a_policy_tightened_after_the_answer_opens_the_question_again(world: World) -> None:
    office = Office(world)
    request = office.ask()
    office.answer(request, "ada")
    world.commit({"p.yaml": policy(quorum=2)})
    world.sync()
    assert office.act() is None
    world.settle()
    assert office.state(request) == "Pending"
    assert world.state("a") is MissionState.NEEDS_APPROVAL
    office.answer(request, "bob")
    assert office.act() is not None
    assert office.acts == ["mail"]


def test_somebody_who_lost_the_role_has_given_no_leave(world: World) -> None:
    office = Office(world, tenant(ada="Approver", bob="Approver"))
    office.answer(office.ask(), "ada")
    world.commit({"more0.yaml": tenant(ada="Viewer", bob="Approver")})
    world.sync()
    assert office.act() is None


# Time.


def test_a_question_that_nobody_answers_is_reminded_once_and_the_mission_parked(office: Office) -> None:
    world = office.world
    request = office.ask()
    world.advance(56 * HOURS)
    assert [e.reason for e in world.events("ApprovalRequested")] == ["Action", "Reminder"]
    world.advance(55 * HOURS)
    assert office.state(request) == "Expired"
    assert world.canceled == ["a-1"]
    assert world.started == ["a-1"]
    world.finish("a-1", state=RunState.CANCELED)
    assert world.state("a") is MissionState.BLOCKED
    assert world.status("a").transitions[-1].reason == "ApprovalExpired"
    assert alerts_of(world) == [("ApprovalTimeout", "Open", "a")]
    world.advance(100 * HOURS)
    assert world.started == ["a-1"]
    assert [e.reason for e in world.events("AlertRaised")] == ["ApprovalTimeout"]
    world.answer("a")
    assert world.started == ["a-1", "a-2"]
    assert alerts_of(world) == [("ApprovalTimeout", "Resolved", "a")]
    world.check()


def test_a_leave_that_is_not_used_in_time_raises_no_alert(office: Office) -> None:
    request = office.ask()
    office.answer(request)
    office.world.advance(112 * HOURS)
    assert office.state(request) == "Expired"
    assert alerts_of(office.world) == []


def alerts_of(world: World) -> list[tuple[str, str, str]]:
    """Type, state and subject of every alert."""
    found = [r for r in world.everything() if r.kind == "Alert"]
    return [(r.spec["type"], r.state, r.spec["subject"].rpartition("/")[2]) for r in found]


# Without a process.


@pytest.mark.parametrize(
    ("state", "reason"),
    [(RunState.FAILED, RunReason.AWAITING_APPROVAL), (RunState.TIMED_OUT, RunReason.DEADLINE_EXCEEDED)],
)
def test_a_run_that_could_only_wait_ends_and_the_next_goes_on_with_the_answer(
    office: Office, state: RunState, reason: RunReason
) -> None:
    world = office.world
    request = office.ask()
    world.finish("a-1", state=state, reason=reason)
    assert world.state("a") is MissionState.NEEDS_APPROVAL
    assert world.status("a").current_run is None
    world.advance(5 * HOURS)
    assert world.started == ["a-1"]
    office.answer(request)
    assert world.started == ["a-1", "a-2"]
    assert world.status("a").attempts == 1
    assert office.act() is not None
    world.finish("a-2")
    assert world.state("a") is MissionState.DONE
    world.check()


def test_a_run_that_hands_in_while_it_waits_needs_no_answer_any_more(office: Office) -> None:
    request = office.ask()
    office.world.finish("a-1")
    assert office.world.state("a") is MissionState.DONE
    assert office.state(request) == "Withdrawn"


def test_a_vanished_run_is_still_unknown_while_leave_is_asked(office: Office) -> None:
    request = office.ask()
    office.world.finish("a-1", state=RunState.UNKNOWN)
    assert office.world.state("a") is MissionState.BLOCKED
    assert office.world.status("a").transitions[-1].reason == "OutcomeUnknown"
    assert office.act() is None
    assert office.state(request) in ("Pending", "Withdrawn")


def test_a_new_round_begins_without_old_leaves(office: Office) -> None:
    world = office.world
    request = office.ask()
    office.answer(request)
    world.finish("a-1", state=RunState.UNKNOWN)
    world.answer("a")
    assert office.run.name == "a-2"
    assert office.state(request) == "Withdrawn"
    assert office.act() is None


# Scenario 19.


def test_scenario_19_a_decision_that_is_taken_away_has_been_given(world: World) -> None:
    office = Office(world, policy(quorum=2))
    request = office.ask()
    first = office.answer(request, "ada")
    world.remove("ApprovalDecision", first.name)
    assert world.get("ApprovalRequest", request.name).status["quorum"] == "1/2"
    second = office.answer(request, "bob")
    world.remove("ApprovalDecision", second.name)
    assert office.act() is not None
