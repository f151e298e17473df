"""E-stop on real engines with busy agents: nothing is dispatched once the command has returned, what runs ends, also
when the store is locked, gone or without an engine; a release goes on."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from store.contract import Event
from tests.e2e.fleet import agent, document, executor, mission, together
from tests.fakes.engine_process import Project, pause, until

AGENTS = 20
_LONG = 'echo start >> "$0/$REMIT_RUN"; exec sleep 600'


def fleet(project: Project, *, agents: int = AGENTS, each: int = 3) -> dict[str, str]:
    """Agents of one place whose programs do not end by themselves, each with several missions."""
    program = executor("long", ["/bin/sh", "-c", _LONG, str(project.effects)])
    names = [f"agent{n:02d}" for n in range(agents)]
    files = {"fleet.yaml": together(program, *(agent(name, "long") for name in names))}
    for name in names:
        works = [mission(f"{name}-{n}", name, project.effects, retry={"maxAttempts": 9}) for n in range(each)]
        files[f"missions/{name}.yaml"] = together(*works)
    return files


def busy(project: Project, count: int = AGENTS) -> None:
    until(lambda: len(project.agents()) >= count, lambda: f"{count} programs: {project.states()}", 120)


def all_stopped(project: Project, count: int = AGENTS) -> None:
    until(lambda: not project.agents(), lambda: f"the end of {project.agents()}", 60)
    until(lambda: project.states()["Blocked"] >= count, lambda: f"Blocked missions: {project.states()}", 60)


def dispatched(project: Project) -> list[Event]:
    return project.events("Dispatched")


def test_nothing_is_dispatched_after_an_estop_and_the_release_goes_on(project: Project) -> None:
    project.commit(fleet(project))
    engine = project.engine()
    busy(project)
    said = project.good("estop", "--reason", "it writes to customers")
    before = len(dispatched(project))
    assert "STOPPED everything" in said
    all_stopped(project)
    assert len(dispatched(project)) == before
    hold = project.get("Hold", "estop")
    assert hold.status["placedBy"] == "user:alice"
    canceled = project.events("CancelRequested")
    assert len({e.data["run"] for e in canceled}) == AGENTS == len(canceled)
    assert all("it writes to customers" in e.message for e in canceled)
    assert project.remit("release", "estop").code == 3, "an e-stop is released with a reason"
    done = project.remit("retry", "agent00-0")
    assert done.code == 3, done
    project.good("estop", "release", "agent/agent00", "--reason", "try one")
    until(lambda: len(dispatched(project)) > before, "a dispatch of the one that was released")
    assert {e.data["agent"] for e in dispatched(project)[before:]} == {"agent00"}
    project.good("estop", "release", "--reason", "fixed")
    busy(project)
    assert engine.alive
    project.good("estop", "--reason", "the end")
    all_stopped(project)
    assert engine.stop() == 0
    project.is_sound()
