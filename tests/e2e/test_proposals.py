"""Agents propose changes to a real engine, which is killed as soon as a question stands, before or while its branch is
made: one question and one branch each, and a merge answers it."""

from __future__ import annotations

import json
import sys

import pytest

from schemas.resource import Resource
from tests.e2e.fleet import PROGRAMS, agent, document, executor, together
from tests.fakes.engine_process import Project, until

COUNT = 2


def fleet(project: Project) -> str:
    rule = {"kind": "Budget", "names": ["day-*"], "fields": ["spec.limits.usd"]}
    budgets = [
        document("Budget", f"day-{n}", {"scope": {"missionType": "Docs"}, "window": "Day", "limits": {"usd": 5}})
        for n in range(COUNT)
    ]
    missions = [
        document("Mission", f"ask-{n}", {
            "title": "ask for more", "agentRef": {"name": "asker"}, "review": "None",
            "input": {"effects": str(project.effects), "budget": f"day-{n}", "usd": 7 + n},
        })
        for n in range(COUNT)
    ]  # fmt: skip
    return together(
        executor("asking", [sys.executable, "-P", str(PROGRAMS / "proposer.py")], output="Remit"),
        agent("asker", "asking", proposals={"allow": [rule], "maxOpen": COUNT}),
        *budgets,
        *missions,
    )


def questions(project: Project) -> list[Resource]:
    return [r for r in project.objects("ApprovalRequest") if r.spec["type"] == "Change"]


def branches(project: Project) -> list[str]:
    listed = project.repo.git("branch", "--list", "--format=%(refname:short)", "remit/proposals/*")
    return sorted(listed.split())


@pytest.mark.timeout(600)
def test_an_engine_killed_between_question_and_branch_makes_one_of_each_and_a_merge_answers(project: Project) -> None:
    project.commit({"fleet.yaml": fleet(project)})
    for number in range(COUNT):
        engine = project.engine()
        until(lambda wanted=number + 1: len(questions(project)) >= wanted, "a question")  # type: ignore[misc]
        engine.kill()
    project.engine()
    until(lambda: len(branches(project)) == COUNT, lambda: f"the branches, not {branches(project)}")
    until(lambda: project.states()["Done"] == COUNT, lambda: f"the end of {project.states()}")
    found = questions(project)
    assert sorted(q.spec["action"]["branch"] for q in found) == branches(project)
    assert len({q.spec["action"]["object"] for q in found}) == COUNT, "each was asked once"
    told = [json.loads((project.effects / f"ask-{n}.asked").read_text())["branch"] for n in range(COUNT)]
    assert sorted(told) == branches(project)
    chosen = next(q for q in found if q.spec["action"]["object"] == "budget/day-1")
    until(lambda: project.get("ApprovalRequest", chosen.name).status["proposal"]["commit"], "its commit")
    project.repo.git("merge", "-q", "--no-ff", "-m", "Take it", chosen.spec["action"]["branch"])
    until(lambda: project.get("ApprovalRequest", chosen.name).state == "Approved", "the answer")
    assert str(project.get("Budget", "day-1").spec["limits"]["usd"]) == "8"
    until(lambda: len(branches(project)) == COUNT - 1, "the branch to go")
    other = next(q for q in found if q.name != chosen.name)
    project.good("deny", other.name, "--reason", "enough", "--no-wait")
    until(lambda: len(branches(project)) == COUNT - 2, "the other branch to go")
    assert (
        str(project.get("Budget", other.spec["action"]["object"].removeprefix("budget/")).spec["limits"]["usd"]) == "5"
    )
