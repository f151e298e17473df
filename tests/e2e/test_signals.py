"""What an engine does when it is told to end, stopped for a while, or loses the supervisor of its programs."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path

import pytest

from schemas.resource import Resource
from schemas.run import RunState
from store.contract import EffectState
from tests.e2e.fleet import mission, workers
from tests.fakes.engine_process import Project, pause, until


def at_work(project: Project, count: int) -> Path:
    """Declare missions, start an engine, and wait until their programs are at work; they end once somebody makes the
    file whose name comes back."""
    go = project.folder / "go"
    files = {f"m{n}.yaml": mission(f"m{n}", "worker", project.effects, until=go) for n in range(count)}
    project.commit({"fleet.yaml": workers(places=4), **files})
    project.engine()
    until(lambda: len(running_runs(project)) == count, "programs at work")
    all_began(project)
    return go


def running_runs(project: Project) -> list[Resource]:
    return [r for r in project.objects("Run") if r.state == RunState.RUNNING]


def all_began(project: Project) -> None:
    """Wait until each run has left its line: a program that was only just started and is killed now leaves none."""
    until(lambda: len(project.lines()) == len(project.objects("Run")), "every program to begin")


def effects_once(project: Project) -> None:
    """Every run left one line, in a file of its own."""
    missions = {m.name: m.uid for m in project.objects("Mission")}
    wanted = {f"{missions[r.spec['missionRef']['name']]}.{r.spec['attempt']}": [r.uid] for r in project.objects("Run")}
    assert project.lines() == wanted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains_and_agents_at_work_go_on_for_the_next_start(
    project: Project, number: signal.Signals
) -> None:
    go = at_work(project, 3)
    assert project.engines[0].stop(number) == 0
    assert "goes on" in project.engines[0].out
    assert len(project.agents()) == 3
    assert project.events("EngineStopped")
    # They end while nobody is there: what they came to is taken by the next start.
    go.touch()
    until(lambda: not project.agents(), "the end of the programs")
    assert all(r.state == RunState.RUNNING for r in project.objects("Run"))
    engine = project.engine()
    for name in ("m0", "m1", "m2"):
        project.comes_to(name, "Done")
    project.ends_well(engine, number=number)
    effects_once(project)
    project.nothing_is_left()


def test_a_second_signal_leaves_at_once_and_loses_nothing(project: Project) -> None:
    go = at_work(project, 3)
    engine = project.engines[0]
    # A program that does not answer holds the drain up: the supervisor is stopped, so that a cancel waits for it.
    _, supervisor = until(lambda: [p for p in [project.supervisors()] if len(p) == 2], "supervisor and guardian")[0]
    os.kill(supervisor, signal.SIGSTOP)
    try:
        project.commit({"m0.yaml": mission("m0", "worker", project.effects, until=go, desiredState="Canceled")})
        until(lambda: "CancelRun" in under_way(project), "the cancel")
        engine.send(signal.SIGTERM)
        pause(1.0)
        assert engine.alive
        # Two that come before the process gets its turn are one: it is told until it listens.
        until(lambda: not engine.alive or engine.send(signal.SIGTERM), "its end", every_s=1.0)
        assert engine.ends() == 128 + signal.SIGTERM, "the first one alone ends it with 0, or 2"
    finally:
        os.kill(supervisor, signal.SIGCONT)
    engine = project.engine()
    project.comes_to("m0", "Canceled")
    go.touch()
    for name in ("m1", "m2"):
        project.comes_to(name, "Done")
    project.ends_well(engine)
    effects_once(project)


def under_way(project: Project) -> list[str]:
    """Types of the effects that a runner has taken."""
    with project.look() as snapshot:
        return [e.type for e in snapshot.effects(states=[EffectState.CLAIMED], limit=1000)]


def test_an_engine_that_stands_still_for_five_seconds_goes_on(project: Project) -> None:
    files = {f"m{n}.yaml": mission(f"m{n}", "worker", project.effects, seconds=0.5) for n in range(12)}
    project.commit({"fleet.yaml": workers(places=2), **files})
    engine = project.engine()
    until(lambda: project.states()["Done"], "the first mission")
    project.commit({f"r{n}.yaml": mission(f"r{n}", "reporter", project.effects, seconds=0.5) for n in range(4)})
    until(lambda: any(r.name.startswith("r") for r in project.objects("Run")), "a reporter")
    engine.send(signal.SIGSTOP)
    pause(5)
    engine.send(signal.SIGCONT)
    until(lambda: project.states() == {"Done": 16}, lambda: f"the end of {project.states()}")
    assert {r.state for r in project.objects("Run")} == {"Succeeded"}
    project.ends_well(engine)
    effects_once(project)


@pytest.mark.parametrize("which", ["supervisor", "guardian too"])
def test_programs_of_a_killed_supervisor_are_lost_and_tried_again(project: Project, which: str) -> None:
    retry = {"maxAttempts": 3, "backoff": {"initial": "0.1s"}, "idempotent": True}
    go = project.folder / "go"
    files = {f"m{n}.yaml": mission(f"m{n}", "worker", project.effects, until=go, retry=retry) for n in range(4)}
    # Without a declaration that repeating is safe, and once there was a report, nobody can know what was done.
    files["once.yaml"] = mission("once", "worker", project.effects, until=go, retry={"maxAttempts": 1})
    mute = {"maxAttempts": 3, "backoff": {"initial": "0.1s"}}
    files["mute.yaml"] = mission("mute", "worker", project.effects, until=go, retry=mute)
    files["told.yaml"] = mission("told", "reporter", project.effects, seconds=600, retry=retry)
    project.commit({"fleet.yaml": workers(places=6), **files})
    engine = project.engine()
    until(lambda: len(running_runs(project)) == 7, "the programs")
    all_began(project)
    until(lambda: any(r.status.get("progress") for r in project.objects("Run")), "the report")
    victims = until(lambda: [p for p in [project.supervisors()] if len(p) == 2], "supervisor and guardian")[0]
    programs = set(project.agents())
    for pid in victims if which == "guardian too" else victims[1:]:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not programs & set(project.agents()), "the end of the programs that nobody holds")
    go.touch()
    for n in range(4):
        project.comes_to(f"m{n}", "Done")
    project.comes_to("once", "Blocked")
    project.comes_to("mute", "Blocked")
    project.comes_to("told", "Blocked")
    lost = {r.name: (r.state, r.status["reason"]) for r in project.objects("Run") if r.state in ("Lost", "Unknown")}
    assert lost["m0-1"] == ("Lost", "WorkerLost")
    assert lost["once-1"][0] == lost["mute-1"][0] == "Unknown"
    assert lost["told-1"][0] == "Unknown"
    assert "nobody can know" in project.get("Run", "told-1").status["message"]
    assert engine.alive
    project.ends_well(engine)
    effects_once(project)
    project.nothing_is_left()


def test_supervisor_and_engine_killed_together_leave_a_fleet_that_recovers(project: Project) -> None:
    retry = {"maxAttempts": 2, "backoff": {"initial": "0.1s"}, "idempotent": True}
    go = project.folder / "go"
    files = {f"m{n}.yaml": mission(f"m{n}", "worker", project.effects, until=go, retry=retry) for n in range(4)}
    project.commit({"fleet.yaml": workers(places=4), **files})
    engine = project.engine()
    until(lambda: len(running_runs(project)) == 4, "the programs")
    all_began(project)
    for pid in [*project.supervisors(), engine.pid]:
        os.kill(pid, signal.SIGKILL)
    engine.process.wait()
    orphans = project.agents()
    assert orphans
    engine = project.engine()
    until(lambda: not set(orphans) & set(project.agents()), "the end of the orphans")
    go.touch()
    until(lambda: project.states() == {"Done": 4}, lambda: f"the end of {project.states()}")
    project.ends_well(engine)
    effects_once(project)
    project.nothing_is_left()


def test_an_account_that_nobody_reads_does_not_hold_the_engine_up(project: Project) -> None:
    """`remit run | less`, or a terminal stopped by Ctrl-S."""
    count = 60
    files = {f"m{n}.yaml": mission(f"m{n}", "worker", project.effects) for n in range(count)}
    project.commit({"fleet.yaml": workers(places=4), **files})
    reader, writer = os.pipe()
    try:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        engine = project.engine(ready=False, stdout=writer)
        os.close(writer)
        until(lambda: project.states() == {"Done": count}, "all missions to be done")
        engine.send(signal.SIGTERM)
        assert engine.ends() == 0
    finally:
        os.close(reader)


def test_an_account_whose_reader_left_does_not_end_the_engine(project: Project) -> None:
    """`remit run | head -3`."""
    project.commit({"fleet.yaml": workers(), "m.yaml": mission("m", "worker", project.effects)})
    reader, writer = os.pipe()
    os.close(reader)
    engine = project.engine(ready=False, stdout=writer)
    os.close(writer)
    until(lambda: project.state("m") == "Done", "the mission")
    pause(2)
    assert engine.alive
    assert engine.err.count("\n") < 3, engine.err
    engine.send(signal.SIGTERM)
    assert engine.ends() in (0, 141)
