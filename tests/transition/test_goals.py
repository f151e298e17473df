"""Goals, to-dos and projects in a whole engine under a moved clock."""

from __future__ import annotations

import json
from datetime import timedelta

from schemas.goal import GoalStatus
from schemas.mission import MissionState
from schemas.project import ProjectStatus
from schemas.run import RunState
from tests.fakes.world import World, agent, executor, mission

CADENCE = 1800.0


def goal(name: str = "green", *, classes: str = "[Ops]", template: str = "", **spec: object) -> str:
    fields = "".join(f"  {key}: {value}\n" for key, value in spec.items())
    return (
        f"apiVersion: remit.dev/v1alpha1\nkind: Goal\nmetadata: {{name: {name}}}\nspec:\n"
        f"  objective: all is well\n  autoExecute: {{classes: {classes}}}\n{fields}"
        "  missionTemplates:\n    - name: look\n      metadata: {labels: {made-by: goal}}\n"
        f"      spec: {{title: look around, review: None, agentRef: {{name: worker}}{template}}}\n"
    )


def begin(world: World, text: str, **more: str) -> None:
    world.commit({"e.yaml": executor(), "a.yaml": agent(maxConcurrentMissions=5), "g.yaml": text, **more})
    world.sync()


def status(world: World, name: str = "green") -> GoalStatus:
    return GoalStatus.model_validate(world.get("Goal", name).status)


def test_each_look_makes_a_mission_once_the_last_one_has_ended(world: World) -> None:
    begin(world, goal(metric="{source: open-faults, start: 10, target: 0}"))
    assert world.started == ["green-look-1-1"]
    assert world.get("Mission", "green-look-1").labels["made-by"] == "goal"
    assert world.reason("Goal", "green", "Reached") == "False/NoFigure"
    world.advance(CADENCE)
    assert len(world.started) == 1, "the last one has not ended"
    world.finish("green-look-1-1", text=json.dumps({"open-faults": 4}))
    assert len(world.started) == 1, "the next look is later"
    found = status(world)
    assert (found.value, found.progress, found.missions.done) == (4.0, 0.6, 1)
    assert world.reason("Goal", "green", "Reached") == "False/InProgress"
    world.advance(CADENCE)
    assert world.started[-1] == "green-look-2-1"
    world.finish("green-look-2-1", text=json.dumps({"open-faults": 0}))
    assert world.reason("Goal", "green", "Reached") == "True/Reached"
    world.advance(4 * CADENCE)
    assert len(world.started) == 2, "it is reached: nothing more is made"
    assert [e.reason for e in world.events("GoalReached")] == ["Reached"]


def test_a_restart_between_looks_makes_nothing_twice(world: World) -> None:
    begin(world, goal(metric="{source: x, target: 1}"))
    for _ in range(3):
        world.restart()
    world.finish("green-look-1-1")
    world.restart()
    assert len(world.started) == 1
    world.clock.tick(10 * CADENCE)
    world.restart()
    world.restart()
    assert world.started == ["green-look-1-1", "green-look-2-1"], "one look, however many were missed"
    assert status(world).missions.total == 2


def test_without_a_metric_it_is_reached_when_all_its_missions_are_done(world: World) -> None:
    begin(world, goal(), **{"m.yaml": mission("by-hand", goalRef="{name: green}")})
    assert status(world).missions.total == 2
    world.finish("green-look-1-1")
    assert (status(world).progress, world.reason("Goal", "green", "Reached")) == (0.5, "False/InProgress")
    world.finish("by-hand-1")
    assert (status(world).progress, world.reason("Goal", "green", "Reached")) == (1.0, "True/Reached")


def test_a_type_that_is_not_allowed_waits_for_a_person(world: World) -> None:
    begin(world, goal(classes="[Docs]"))
    assert world.started == []
    waiting = world.get("Mission", "green-look-1")
    assert waiting.state == MissionState.INBOX
    assert waiting.annotations["remit.dev/proposed-agent"] == "worker"
    assert "remit assign" in world.status("green-look-1").blocked_on[0].hint


def test_the_selector_of_the_goal_finds_an_agent_for_templates_that_name_none(world: World) -> None:
    text = goal(agentSelector="{matchLabels: {team: docs}}").replace(", agentRef: {name: worker}", "")
    begin(world, text)
    assert world.started == []
    world.commit({"b.yaml": agent("writer").replace("{name: writer}", "{name: writer, labels: {team: docs}}")})
    world.sync()
    assert world.started == ["green-look-1-1"]


def test_three_failures_in_a_row_stop_it_until_somebody_looked(world: World) -> None:
    begin(world, goal(template=", retry: {maxAttempts: 1}"))
    for number in (1, 2, 3):
        world.finish(f"green-look-{number}-1", state=RunState.FAILED, retryable=False)
        world.advance(CADENCE)
    world.advance(10 * CADENCE)
    assert len(world.started) == 3
    assert world.reason("Goal", "green", "Ready") == "False/MissionsFail"
    world.commit({"g.yaml": goal(owner="somebody", template=", retry: {maxAttempts: 1}")})
    world.sync()
    world.advance(CADENCE)
    assert len(world.started) == 4


def test_held_or_suspended_it_makes_nothing(world: World) -> None:
    begin(world, goal(suspend="true"))
    assert (world.started, world.reason("Goal", "green", "Ready")) == ([], "False/Suspended")
    world.act("Hold", "quiet", {"selector": {"kinds": ["Goal"], "names": ["green"]}, "reason": "audit"})
    world.commit({"g.yaml": goal()})
    world.sync()
    world.advance(CADENCE)
    assert (world.started, world.reason("Goal", "green", "Ready")) == ([], "False/Held")
    world.remove("Hold", "quiet")
    world.advance(CADENCE)
    assert world.started == ["green-look-1-1"]


def test_a_goal_that_is_not_reached_in_time_says_so(world: World) -> None:
    ends = (world.now + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    begin(world, goal(deadline=f'"{ends}"', metric="{source: x, target: 1}"))
    world.advance(3700)
    assert world.reason("Goal", "green", "Reached") == "False/Overdue"


def test_its_to_dos_are_made_once_and_belong_to_people_afterwards(world: World) -> None:
    begin(world, goal(todos="[{name: ask, title: ask around, assignee: 'user:bob', dueDate: '2030-01-01'}]"))
    todo = world.get("Todo", "green-ask")
    assert (todo.spec["title"], todo.owner_uid) == ("ask around", world.get("Goal", "green").uid)
    assert world.reason("Todo", "green-ask", "Done") == "False/Open"
    assert status(world).todos == ("green-ask",)


def test_deleting_it_takes_its_missions_and_to_dos_and_waits_for_those_of_others(world: World) -> None:
    begin(
        world,
        goal(todos="[{name: ask, title: ask around}]"),
        **{"m.yaml": mission("by-hand", goalRef="{name: green}")},
    )
    world.commit(delete=("g.yaml",))
    world.sync()
    assert world.canceled == ["green-look-1-1"]
    world.finish("green-look-1-1", state=RunState.CANCELED)
    assert world.find("Todo", "green-ask") is None
    assert world.reason("Goal", "green", "Ready") == "False/InUse"
    world.finish("by-hand-1")
    assert world.find("Goal", "green") is None


def test_what_its_missions_used_is_counted(world: World) -> None:
    from decimal import Decimal

    from schemas.mission import Spend

    begin(world, goal(projectRef="{name: docs}"), **{"p.yaml": project("Definition")})
    world.finish("green-look-1-1", spend=Spend(usd=Decimal("0.03"), source="Reported"))
    assert status(world).spend.usd == Decimal("0.03")
    found = ProjectStatus.model_validate(world.get("Project", "docs").status)
    assert (found.spend.usd, found.done_missions, found.open_missions) == (Decimal("0.03"), 1, 0)


# To-dos.


def todo(**spec: object) -> str:
    fields = "".join(f"  {key}: {value}\n" for key, value in spec.items())
    return f"apiVersion: remit.dev/v1alpha1\nkind: Todo\nmetadata: {{name: tidy}}\nspec:\n  title: tidy up\n{fields}"


def test_a_mission_does_it(world: World) -> None:
    template = "{spec: {title: tidy up, review: None, agentRef: {name: worker}}}"
    begin(world, todo(missionTemplate=template))
    assert world.reason("Todo", "tidy", "Done") == "False/MissionRunning"
    world.finish("tidy-mission-1")
    assert world.reason("Todo", "tidy", "Done") == "True/Done"
    world.restart()
    assert world.started == ["tidy-mission-1"]
    assert [e.reason for e in world.events("TodoDone")] == ["Mission"]


def test_a_mission_that_fails_leaves_it_open(world: World) -> None:
    template = "{spec: {title: tidy up, review: None, retry: {maxAttempts: 1}, agentRef: {name: worker}}}"
    begin(world, todo(missionTemplate=template))
    world.finish("tidy-mission-1", state=RunState.FAILED, retryable=False)
    assert world.reason("Todo", "tidy", "Ready") == "False/MissionFailed"
    assert world.reason("Todo", "tidy", "Done") == "False/Open"


def test_a_person_says_it_is_done_and_until_then_it_may_be_late(world: World) -> None:
    day = (world.now + timedelta(days=1)).strftime("%Y-%m-%d")
    begin(world, todo(dueDate=f'"{day}"', assignee="user:alice"))
    assert world.reason("Todo", "tidy", "Done") == "False/Open"
    world.advance(3 * 86400)
    assert world.reason("Todo", "tidy", "Done") == "False/Overdue"
    world.commit({"g.yaml": todo(state="Done")})
    world.sync()
    assert world.reason("Todo", "tidy", "Done") == "True/Done"


# Projects.


def project(stage: str, **spec: object) -> str:
    fields = "".join(f"  {key}: {value}\n" for key, value in spec.items())
    return f"apiVersion: remit.dev/v1alpha1\nkind: Project\nmetadata: {{name: docs}}\nspec:\n  stage: {stage}\n{fields}"


def test_a_project_moves_one_stage_at_a_time_and_back_freely(world: World) -> None:
    begin(world, project("Design"))
    world.commit({"g.yaml": project("Testing")})
    world.sync()
    assert world.reason("Project", "docs", "Ready") == "False/StageSkipped"
    assert world.get("Project", "docs").status["stage"] == "Design"
    for stage in ("Development", "Testing", "Definition"):
        world.commit({"g.yaml": project(stage)})
        world.sync()
        assert world.reason("Project", "docs", "Ready") == "True/Reconciled"
    assert [e.reason for e in world.events("StageChanged")] == ["Development", "Testing", "Definition"]


def test_it_counts_its_missions_and_waits_for_them_when_it_is_deleted(world: World) -> None:
    files = {f"m{n}.yaml": mission(f"m{n}", projectRef="{name: docs}") for n in range(3)}
    begin(world, project("Design"), **files)
    world.finish("m0-1")
    found = ProjectStatus.model_validate(world.get("Project", "docs").status)
    assert (found.open_missions, found.done_missions) == (2, 1)
    world.commit(delete=("g.yaml",))
    world.sync()
    assert world.reason("Project", "docs", "Ready") == "False/InUse"
    world.restart()
    world.finish("m1-1")
    world.finish("m2-1")
    assert world.find("Project", "docs") is None


def test_a_channel_that_is_not_there_is_named(world: World) -> None:
    begin(world, todo(dueDate='"2030-01-01"'))
    world.act("Project", "docs", {"channelRef": {"name": "news"}})
    assert world.reason("Project", "docs", "Ready") == "False/ReferenceNotFound"
