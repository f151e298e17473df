"""A run that stopped to wait for leave is followed by one that goes on with its session; nothing else is."""

from __future__ import annotations

import pytest

from controllers.effects.runs import end_run
from controllers.runs import records
from schemas.mission import MissionState
from schemas.resource import SYSTEM
from schemas.run import RunReason, RunState
from tests.fakes.gates import Desk
from tests.fakes.world import World, agent, mission

EXECUTOR = """\
apiVersion: remit.dev/v1alpha1
kind: Executor
metadata: {name: local}
spec:
  type: Command
  command: {argv: [claude, -p, Work.], resume: [claude, -p, --resume, "{session}"], outputFormat: ClaudeJson}
"""
COMMIT = {"command": "git push"}


def start(world: World, fleet: str = EXECUTOR) -> Desk:
    tools = agent(autonomyLevel="Specialist", tools="[{name: '*'}]")
    world.commit({"fleet.yaml": fleet + "---\n" + tools, "a.yaml": mission("a")})
    world.sync()
    desk = Desk(world)
    desk.ask("a-1", "push_tag", COMMIT)
    return desk


def stop(world: World, run: str = "a-1", session: str | None = "5e55-10") -> None:
    """The program ends because it was told to come back."""
    resource = world.get("Run", run)
    ending = records.Ending(
        state=RunState.FAILED, reason=RunReason.AWAITING_APPROVAL, message="it paused", exit_code=0, session_id=session,
        started_at=world.now, ended_at=world.now,
    )  # fmt: skip
    with world.store.transaction(SYSTEM) as tx:
        end_run(tx, resource.uid, ending)
    world.settle()


def resumes(world: World, run: str = "a-2") -> str:
    return str((world.get("Run", run).spec.get("resumes") or {}).get("session", ""))


def test_the_next_run_goes_on_with_the_session_and_the_chain_keeps_its_beginning(world: World) -> None:
    desk = start(world)
    stop(world)
    assert (world.state("a"), world.started) == (MissionState.NEEDS_APPROVAL, ["a-1"])
    world.restart()
    world.answer("a")
    assert world.started == ["a-1", "a-2"]
    assert resumes(world) == "5e55-10"
    assert world.get("Run", "a-2").status["sessionId"] == "5e55-10"
    assert desk.ask("a-2", "push_tag", COMMIT).decision == "allow"
    desk.ask("a-2", "push_tag", {"command": "git push --tags"})
    stop(world, "a-2")
    world.answer("a")
    third = world.get("Run", "a-3").spec["resumes"]
    assert (third["name"], third["firstUid"]) == ("a-2", world.get("Run", "a-1").uid)
    world.finish("a-3")
    assert (world.state("a"), world.status("a").attempts) == (MissionState.DONE, 1)
    assert world.get("Agent", "worker").status["errorStreak"] == 0


def test_an_answer_that_comes_before_the_end_of_the_program_costs_no_attempt(world: World) -> None:
    start(world)
    world.answer("a")
    stop(world)
    assert world.started == ["a-1", "a-2"]
    assert resumes(world) == "5e55-10"
    assert world.status("a").attempts == 1


def test_a_refusal_goes_on_with_the_session_too_and_the_program_hears_of_it(world: World) -> None:
    desk = start(world)
    stop(world)
    world.answer("a", "Deny", reason="not today")
    assert resumes(world) == "5e55-10"
    assert desk.ask("a-2", "push_tag", COMMIT).decision == "ask", "a refusal is for what was asked then"


def test_a_program_that_says_it_waits_and_asked_nothing_has_failed(world: World) -> None:
    tools = agent(autonomyLevel="Specialist", tools="[{name: '*'}]")
    world.commit({"fleet.yaml": EXECUTOR + "---\n" + tools, "a.yaml": mission("a")})
    world.sync()
    stop(world)
    assert world.state("a") is MissionState.FAILED
    assert world.started == ["a-1"]


@pytest.mark.parametrize("edit", ["mission", "agent", "executor"])
def test_an_edit_meanwhile_begins_anew(world: World, edit: str) -> None:
    desk = start(world)
    stop(world)
    fleet = EXECUTOR.replace("Work.", "Work well.") if edit == "executor" else EXECUTOR
    prompt = {"systemPrompt": "Be careful."} if edit == "agent" else {}
    tools = agent(autonomyLevel="Specialist", tools="[{name: '*'}]", **prompt)
    title = {"title": "do it well"} if edit == "mission" else {}
    world.commit({"fleet.yaml": fleet + "---\n" + tools, "a.yaml": mission("a", **title)})
    world.sync()
    world.answer("a")
    assert world.started == ["a-1", "a-2"]
    assert resumes(world) == ""
    word = desk.ask("a-2", "push_tag", COMMIT).decision
    assert word == ("allow" if edit == "executor" else "ask"), "a leave holds for the specs that it was asked under"


@pytest.mark.parametrize("session", [None, "", "--dangerously-skip-permissions", "-p", "../x", "a b", "x" * 201])
def test_a_session_that_could_pass_for_something_else_is_none(world: World, session: str | None) -> None:
    start(world)
    stop(world, session=session)
    world.answer("a")
    assert world.started == ["a-1", "a-2"]
    assert resumes(world) == ""


def test_an_executor_without_resume_begins_anew(world: World) -> None:
    start(world, EXECUTOR.replace(', resume: [claude, -p, --resume, "{session}"]', ""))
    stop(world)
    world.answer("a")
    assert world.started == ["a-1", "a-2"]
    assert resumes(world) == ""
