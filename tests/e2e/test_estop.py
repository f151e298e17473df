"""E-stop on real engines with busy agents: nothing is dispatched once the command has returned, what runs ends, also
when the store is locked, gone or without an engine; a release goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.contract import Event
from tests.e2e.fleet import agent, document, executor, mission, together
from tests.fakes import postgres
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


def test_a_locked_store_is_stopped_by_the_file_and_nothing_starts_when_it_is_free_again(project: Project) -> None:
    project.commit(fleet(project))
    engine = project.engine()
    busy(project)
    other = sqlite3.connect(project.database, isolation_level=None, timeout=10)
    other.execute("BEGIN IMMEDIATE")
    before = len(dispatched(project))
    done = project.remit("estop", "--reason", "now")
    assert done.code == 0, done
    assert "STOPPED everything by file" in done.err
    file = project.database.with_name("ESTOP")
    assert str(file) in done.err
    assert file.is_file()
    until(lambda: not project.agents(), lambda: f"the end of {project.agents()} while the store is locked", 60)
    other.execute("ROLLBACK")
    other.close()
    all_stopped(project)
    assert len(dispatched(project)) == before
    made = [h for h in project.objects("Hold") if h.status.get("file")]
    assert [h.status["placedBy"] for h in made] == ["user:alice"]
    file.unlink()  # the Hold that was made of it stays
    pause(1)
    assert len(dispatched(project)) == before
    project.good("estop", "release", "--reason", "unlocked")
    busy(project)
    engine.kill()


def test_a_store_that_is_gone_is_stopped_by_the_file(project: Project) -> None:
    project.commit(fleet(project, agents=4))
    engine = project.engine()
    busy(project, 4)
    for path in project.database.parent.glob("state.db*"):
        path.unlink()
    done = project.remit("estop", "--reason", "the store is gone")
    assert done.code == 0, done
    until(lambda: not project.agents(), lambda: f"the end of {project.agents()}", 60)
    engine.ends()
    again = project.engine()  # a new store beside the same file
    until(lambda: project.states().total() == 12, "the missions", 60)
    pause(1)
    assert dispatched(project) == []
    project.good("estop", "release", "--reason", "restored")
    assert not project.database.with_name("ESTOP").exists()
    busy(project, 4)
    again.kill()


def test_without_an_engine_the_command_itself_stops_the_programs(project: Project) -> None:
    project.commit(fleet(project, agents=3))
    engine = project.engine()
    busy(project, 3)
    engine.kill()
    said = project.good("estop", "--reason", "nobody is there")
    assert "3 program(s) of this machine were told to stop" in said
    until(lambda: not project.agents(), lambda: f"the end of {project.agents()}", 60)
    again = project.engine()
    all_stopped(project, 3)
    assert len(dispatched(project)) == 3
    assert again.stop() == 0
    project.is_sound()


def test_a_hold_that_is_committed_while_the_store_is_locked_stops_what_runs(project: Project) -> None:
    project.commit(fleet(project, agents=3))
    engine = project.engine()
    busy(project, 3)
    other = sqlite3.connect(project.database, isolation_level=None, timeout=10)
    other.execute("BEGIN IMMEDIATE")
    before = len(dispatched(project))
    spec = {"scope": "Global", "mode": "Stop", "reason": "by commit"}
    project.commit({"estop.yaml": document("Hold", "by-commit", spec)})
    until(lambda: not project.agents(), lambda: f"the end of {project.agents()} while the store is locked", 60)
    other.execute("ROLLBACK")
    other.close()
    all_stopped(project, 3)
    assert len(dispatched(project)) == before
    assert project.get("Hold", "by-commit").unit
    done = project.remit("estop", "release", "--reason", "no")
    assert done.code == 3
    assert "estop.yaml:" in done.err
    assert engine.stop() == 0


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Project, Project]]:
    url = postgres.empty_database()
    first = Project(tmp_path / "a", store=url)
    second = Project(tmp_path / "b", store=url, beside=first)
    try:
        yield first, second
    finally:
        first.close()
        second.close()
        postgres.drop_database(url)


def test_two_engines_on_one_database_both_stop(pair: tuple[Project, Project]) -> None:
    first, second = pair
    engines = [first.engine(), second.engine()]
    first.commit(fleet(first))
    until(lambda: len(first.agents()) + len(second.agents()) >= AGENTS, lambda: f"programs: {first.states()}", 180)
    print(len(first.agents()), len(second.agents()))
    first.good("estop", "--reason", "now")
    before = len(dispatched(first))
    for project in pair:
        until(lambda p=project: not p.agents(), lambda p=project: f"the end of {p.agents()}", 60)
    until(lambda: first.states()["Blocked"] >= AGENTS, lambda: f"Blocked missions: {first.states()}", 60)
    assert len(dispatched(first)) == before
    second.good("estop", "release", "--percent", "50", "--reason", "half of them")
    until(lambda: len(dispatched(first)) > before, "a dispatch after the release")
    second.good("estop", "release", "--reason", "all of them")
    until(lambda: len(first.agents()) + len(second.agents()) >= AGENTS, lambda: f"programs: {first.states()}", 180)
    for engine in engines:
        engine.kill()


def test_a_file_beside_one_engine_reaches_the_other_through_the_database(pair: tuple[Project, Project]) -> None:
    first, second = pair
    first.commit(fleet(first, agents=6))
    engines = [first.engine("--quiet", ready=False), second.engine("--quiet", ready=False)]
    until(lambda: len(first.agents()) + len(second.agents()) >= 6, lambda: f"programs: {first.states()}", 180)
    (second.root / ".remit" / "ESTOP").touch()
    for project in pair:
        until(lambda p=project: not p.agents(), lambda p=project: f"the end of {p.agents()}", 60)
    before = len(dispatched(first))
    pause(1)
    assert len(dispatched(first)) == before
    said = first.good("estop", "release", "--reason", "not here")
    assert "while that file is there" in said
    until(lambda: any(h.status.get("file") for h in first.objects("Hold")), "the Hold of the file, made anew")
    second.good("estop", "release", "--reason", "here")
    until(lambda: len(first.agents()) + len(second.agents()) >= 6, lambda: f"programs: {first.states()}", 180)
    for engine in engines:
        engine.kill()
