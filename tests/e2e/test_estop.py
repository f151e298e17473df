"""E-stop on real engines with busy agents: nothing is dispatched once the command has returned, what runs ends, also
when the store is locked, gone or without an engine; a release goes on."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli import local_user
from schemas.event import EventType
from schemas.policy import Verdict
from schemas.resource import Resource
from store.contract import Event
from tests.e2e.fleet import PROGRAMS, agent, document, executor, mission, together
from tests.fakes import postgres
from tests.fakes.engine_process import Project, pause, until

AGENTS = 20
FEW = 8
"""Programs that only have to be stopped."""
LONG = 600.0
"""Longest wait for twenty interpreters to start, or to end."""
pytestmark = pytest.mark.timeout(1800)
ME = f"user:{local_user.name()}"
_LONG = 'echo start >> "$0/$REMIT_RUN"; exec sleep 600'


@dataclass(frozen=True)
class Asked:
    """One answer of the gate, as the agent saw it; times are monotonic seconds."""

    word: str
    code: str
    asked: float
    got: float


def asking(project: Project, *, agents: int = AGENTS) -> dict[str, str]:
    """Agents that ask the gate twenty times a second, and do not end when they are told to."""
    argv = [sys.executable, "-I", "-S", str(PROGRAMS / "ask.py")]
    names = [f"agent{n:02d}" for n in range(agents)]
    makers = [agent(name, "ask", tools=[{"name": "read_db"}]) for name in names]
    works = [mission(f"{name}-0", name, project.effects, retry={"maxAttempts": 9}) for name in names]
    return {"fleet.yaml": together(executor("ask", argv, stop_grace="30s"), *makers), "works.yaml": together(*works)}


def answers(project: Project) -> list[Asked]:
    """What all of them were told so far; half a line is left out."""
    found = []
    for lines in project.lines().values():
        for line in lines:
            parts = line.split()
            if len(parts) == 4:
                found.append(Asked(parts[0], parts[1], float(parts[2]), float(parts[3])))
    return found


def all_ask(project: Project, count: int = AGENTS) -> None:
    """Wait until so many agents were told yes, and again since."""

    def allowed() -> bool:
        files = [lines for lines in project.lines().values() if sum(line.startswith("allow") for line in lines) > 2]
        return len(files) >= count

    until(allowed, lambda: f"{count} agents that ask: {Counter(a.word for a in answers(project))}", LONG)


def no_yes_after(project: Project, moment: float, *, count: int = 5) -> None:
    """Nobody who asked after ``moment`` was told yes; they did go on asking. What was asked before and answered after
    it was on its way, for as long as a busy machine takes: the log tells that it was decided before."""
    refused = "no, over and over"
    until(lambda: sum(a.word == "deny" and a.asked > moment for a in answers(project)) >= count, refused, LONG)
    late = [a for a in answers(project) if a.word == "allow" and a.asked > moment]
    assert late == []
    log = until(lambda: placed_and_after(project), "the Hold in the log")
    assert [e for e in log if e.data.get("verdict") == Verdict.ALLOW] == []


def placed_and_after(project: Project) -> list[Event]:
    """The log from the e-stop on."""
    log = project.events(EventType.CREATED, EventType.CALL_DECIDED)
    first = next((at for at, e in enumerate(log) if e.subject.kind == "Hold"), len(log))
    return log[first:]


def fleet(project: Project, *, agents: int = FEW, each: int = 3) -> dict[str, str]:
    """Agents of one place whose programs do not end by themselves, each with several missions."""
    program = executor("long", ["/bin/sh", "-c", _LONG, str(project.effects)])
    names = [f"agent{n:02d}" for n in range(agents)]
    files = {"fleet.yaml": together(program, *(agent(name, "long") for name in names))}
    for name in names:
        works = [mission(f"{name}-{n}", name, project.effects, retry={"maxAttempts": 9}) for n in range(each)]
        files[f"missions/{name}.yaml"] = together(*works)
    return files


def busy(project: Project, count: int = FEW) -> None:
    until(lambda: len(project.agents()) >= count, lambda: f"{count} programs: {project.states()}", LONG)


def all_stopped(project: Project, count: int = FEW) -> None:
    until(lambda: not project.agents(), lambda: f"the end of {project.agents()}", LONG)
    until(lambda: project.states()["Blocked"] >= count, lambda: f"Blocked missions: {project.states()}", LONG)


def estop(project: Project, reason: str = "now") -> str:
    """Stop everything; by the file where the machine is so busy that the store takes too long."""
    done = project.remit("estop", "--reason", reason)
    assert done.code == 0, done
    said = done.out + done.err
    assert "STOPPED everything" in said
    return said


def dispatched(project: Project) -> list[Event]:
    return project.events("Dispatched")


def test_nothing_is_dispatched_after_an_estop_and_the_release_goes_on(project: Project) -> None:
    project.commit(fleet(project))
    engine = project.engine()
    busy(project)
    estop(project, "it writes to customers")
    before = len(dispatched(project))
    all_stopped(project)
    assert len(dispatched(project)) == before
    (hold, *_) = project.objects("Hold")
    assert hold.status["placedBy"] == ME
    canceled = project.events("CancelRequested")
    assert len({e.data["run"] for e in canceled}) == FEW == len(canceled)
    assert all("it writes to customers" in e.message for e in canceled)
    assert project.remit("release", hold.name).code == 3, "an e-stop is released with a reason"
    done = project.remit("retry", "agent00-0")
    assert done.code == 3, done
    project.good("estop", "release", "agent/agent00", "--reason", "try one")
    until(lambda: len(dispatched(project)) > before, "a dispatch of the one that was released")
    assert {e.data["agent"] for e in dispatched(project)[before:]} == {"agent00"}
    project.good("estop", "release", "--reason", "fixed")
    busy(project)
    assert engine.alive
    estop(project)
    all_stopped(project)
    project.ends_well(engine)


def test_a_locked_store_is_stopped_by_the_file_and_nothing_starts_when_it_is_free_again(project: Project) -> None:
    project.commit(fleet(project))
    engine = project.engine()
    busy(project)
    other = sqlite3.connect(project.database, isolation_level=None, timeout=LONG)
    other.execute("BEGIN IMMEDIATE")
    before = len(dispatched(project))
    done = project.remit("estop", "--reason", "now")
    assert done.code == 0, done
    assert "STOPPED everything by file" in done.err
    file = project.database.with_name("ESTOP")
    assert str(file) in done.err
    assert file.is_file()
    until(lambda: not project.agents(), lambda: f"the end of {project.agents()} while the store is locked", LONG)
    other.execute("ROLLBACK")
    other.close()
    all_stopped(project)
    assert len(dispatched(project)) == before
    made = until(lambda: [h for h in project.objects("Hold") if h.status.get("file")], "the Hold of the file")
    assert [h.status["placedBy"] for h in made] == [ME]
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
    until(lambda: not project.agents(), lambda: f"the end of {project.agents()}", LONG)
    engine.ends()
    again = project.engine()  # a new store beside the same file
    until(lambda: project.states().total() == 12, "the missions")
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
    assert "3 program(s) of this machine were told to stop" in estop(project)
    until(lambda: not project.agents(), lambda: f"the end of {project.agents()}", LONG)
    again = project.engine()
    all_stopped(project, 3)
    assert len(dispatched(project)) == 3
    project.ends_well(again)


def test_a_hold_that_is_committed_while_the_store_is_locked_stops_what_runs(project: Project) -> None:
    project.commit(fleet(project, agents=3))
    engine = project.engine()
    busy(project, 3)
    other = sqlite3.connect(project.database, isolation_level=None, timeout=LONG)
    other.execute("BEGIN IMMEDIATE")
    before = len(dispatched(project))
    spec = {"scope": "Global", "mode": "Stop", "reason": "by commit"}
    project.commit({"estop.yaml": document("Hold", "by-commit", spec)})
    until(lambda: not project.agents(), lambda: f"the end of {project.agents()} while the store is locked", LONG)
    other.execute("ROLLBACK")
    other.close()
    all_stopped(project, 3)
    assert len(dispatched(project)) == before
    assert project.get("Hold", "by-commit").unit
    done = project.remit("estop", "release", "--reason", "no")
    assert done.code == 3
    assert "estop.yaml:" in done.err
    assert engine.stop() == 0


def test_two_engines_on_one_database_both_stop(pair: tuple[Project, Project]) -> None:
    first, second = pair
    engines = [first.engine(), second.engine()]
    first.commit(fleet(first))
    until(lambda: len(first.agents()) + len(second.agents()) >= FEW, lambda: f"programs: {first.states()}", LONG)
    estop(first)
    before = len(dispatched(first))
    for project in pair:
        until(lambda p=project: not p.agents(), lambda p=project: f"the end of {p.agents()}", LONG)
    until(lambda: first.states()["Blocked"] >= FEW, lambda: f"Blocked missions: {first.states()}", LONG)
    assert len(dispatched(first)) == before
    until(lambda: first.objects("Hold"), "the Hold in the database")
    # A machine that is so busy that the file was written, too: nobody is released from that in part.
    (first.root / ".remit" / "ESTOP").unlink(missing_ok=True)
    first.good("estop", "release", "--percent", "50", "--reason", "half of them")
    until(lambda: len(dispatched(first)) > before, "a dispatch after the release")
    first.good("estop", "release", "--reason", "all of them")
    until(lambda: len(first.agents()) + len(second.agents()) >= FEW, lambda: f"programs: {first.states()}", LONG)
    for engine in engines:
        engine.kill()


@pytest.mark.parametrize("trouble", ["locked", "gone"])
def test_two_engines_are_stopped_by_their_files_while_the_database_is(tmp_path: Path, trouble: str) -> None:
    server = postgres.Server()
    first = Project(tmp_path / "a", store=server.url)
    second = Project(tmp_path / "b", store=server.url, beside=first)
    pair = (first, second)
    try:
        engines = [first.engine(), second.engine()]
        first.commit(fleet(first, agents=6))
        until(lambda: len(first.agents()) + len(second.agents()) >= 6, lambda: f"programs: {first.states()}", LONG)
        before = len(dispatched(first))
        with contextlib.ExitStack() as stack:
            if trouble == "locked":
                stack.enter_context(postgres.locked(server.url))
            else:
                server.kill()
                stack.callback(server.start)
            for project in pair:  # each machine has a file of its own
                assert "STOPPED everything by file" in estop(project)
            for project in pair:
                until(lambda p=project: not p.agents(), lambda p=project: f"the end of {p.agents()}", LONG)
        until(lambda: first.states()["Blocked"] >= 6, lambda: f"Blocked missions: {first.states()}", LONG)
        assert len(dispatched(first)) == before
        assert all(engine.alive for engine in engines)
    finally:
        first.close()
        second.close()
        server.close()


def test_a_file_beside_one_engine_reaches_the_other_through_the_database(pair: tuple[Project, Project]) -> None:
    first, second = pair
    engines = [first.engine(), second.engine()]
    first.commit(fleet(first, agents=6))
    until(lambda: len(first.agents()) + len(second.agents()) >= 6, lambda: f"programs: {first.states()}", LONG)
    (second.root / ".remit" / "ESTOP").touch()
    until(lambda: any(h.status.get("file") for h in first.objects("Hold")), "the Hold of the file")
    for project in pair:
        until(lambda p=project: not p.agents(), lambda p=project: f"the end of {p.agents()}", LONG)
    before = len(dispatched(first))
    pause(1)
    assert len(dispatched(first)) == before
    said = first.good("estop", "release", "--reason", "not here")
    assert "while that file is there" in said
    until(lambda: any(h.status.get("file") for h in first.objects("Hold")), "the Hold of the file, made anew")
    second.good("estop", "release", "--reason", "here")
    until(lambda: len(first.agents()) + len(second.agents()) >= 6, lambda: f"programs: {first.states()}", LONG)
    for engine in engines:
        engine.kill()


# The gate.


def refused_calls(project: Project) -> list[Resource]:
    calls = project.objects("ToolCall")
    return [c for c in calls if c.status["conditions"][0]["reason"] in ("Held", "Canceled")]


def test_no_call_is_allowed_after_an_estop_with_twenty_agents_that_ask(project: Project) -> None:
    project.commit(asking(project))
    engine = project.engine()
    all_ask(project)
    estop(project)
    no_yes_after(project, time.monotonic())
    until(lambda: refused_calls(project), "the record of a call that was refused")
    assert engine.stop() == 0


def test_no_call_is_allowed_after_an_estop_over_two_engines(pair: tuple[Project, Project]) -> None:
    first, second = pair
    engines = [first.engine(), second.engine()]
    first.commit(asking(first))
    all_ask(first)
    estop(first)
    no_yes_after(first, time.monotonic())
    for engine in engines:
        engine.kill()


def test_a_call_that_waits_for_a_locked_store_is_refused_when_the_file_came_meanwhile(project: Project) -> None:
    project.commit(asking(project))
    engine = project.engine()
    all_ask(project)
    other = sqlite3.connect(project.database, isolation_level=None, timeout=LONG)
    other.execute("BEGIN IMMEDIATE")
    pause(0.5)
    assert "STOPPED everything by file" in estop(project)
    moment = time.monotonic()
    waiting = [a for a in answers(project) if a.word == "allow" and a.got > moment]
    assert waiting == []
    other.execute("ROLLBACK")
    other.close()
    no_yes_after(project, moment, count=1)
    engine.kill()


def test_no_call_is_allowed_once_the_store_is_gone_and_the_file_is_there(project: Project) -> None:
    project.commit(asking(project, agents=4))
    engine = project.engine()
    all_ask(project, 4)
    for path in project.database.parent.glob("state.db*"):
        path.unlink()
    project.remit("estop", "--reason", "the store is gone")
    moment = time.monotonic()
    until(lambda: not project.agents(), lambda: f"the end of {project.agents()}", LONG)
    assert [a for a in answers(project) if a.word == "allow" and a.asked > moment] == []
    engine.ends()
