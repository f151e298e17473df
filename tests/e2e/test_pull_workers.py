"""Runs that workers fetch: real engines, real `remit worker` processes, each killed in between."""

from __future__ import annotations

import signal
import sys
from collections import Counter

from schemas.run import RunState
from tests.e2e.fleet import PROGRAMS, agent, document, mission, together
from tests.fakes.engine_process import Engine, Project, until
from tests.fakes.secrets import private

RETRY = {"maxAttempts": 3, "backoff": {"initial": "0.1s"}}
TOKEN = "a-token-of-workers-that-is-long"


def fleet(*, lease: str = "60s", places: int = 4) -> str:
    """A Pull executor with a program, and an agent of it."""
    command = {
        "argv": [sys.executable, "-I", "-S", str(PROGRAMS / "work.py")], "outputFormat": "Text", "stopGrace": "1s",
        "workingDir": "workspace", "env": [{"name": "SECRET", "valueFrom": {"env": "ONLY_HERE"}}],
    }  # fmt: skip
    pull = {"lease": lease, "auth": {"file": "worker.token"}, "command": command}
    return together(
        document("Executor", "elsewhere", {"type": "Pull", "pull": pull}), agent("worker", "elsewhere", places=places)
    )


def worker(project: Project, name: str, *flags: str, url: str = "", token: str = TOKEN, waits: bool = True) -> Engine:
    """Start a `remit worker` in the project's folder; ``waits``: once the engine knows what it works for."""
    if waits:
        until(lambda: project.find("Executor", "elsewhere"), "the executor")
    out, err = project.folder / f"{name}.out", project.folder / f"{name}.err"
    private(project.root / "worker.token", TOKEN + "\n")
    private(project.root / f"{name}.token", token + "\n")
    arguments = [
        "--url", url or f"http://127.0.0.1:{project.port}", "--executor", "elsewhere", "--name", name,
        "--token-file", str(project.root / f"{name}.token"), "--state", str(project.root / "elsewhere" / name), *flags,
    ]  # fmt: skip
    with out.open("ab") as out_file, err.open("ab") as err_file:
        process = project.start("worker", *arguments, stdout=out_file, stderr=err_file, ONLY_HERE="of this machine")
    made = Engine(process, out, err)
    project.engines.append(made)
    return made


def test_two_workers_share_the_runs_and_each_happens_once(project: Project) -> None:
    private(project.root / "worker.token", TOKEN)
    names = [f"m{number}" for number in range(4)]
    files = {
        # None ends before all four have begun, which takes both workers.
        f"{name}.yaml": mission(name, "worker", project.effects, beside=4, succeed_at=1 + number % 2, retry=RETRY)
        for number, name in enumerate(names)
    }
    project.commit({"fleet.yaml": fleet(), **files})
    project.engine()
    workers = [worker(project, "one", "--slots", "2"), worker(project, "two", "--slots", "2")]
    for name in names:
        project.comes_to(name, "Done")
    check(project)
    assert {r.status["claim"]["worker"] for r in project.objects("Run")} == {"one", "two"}
    assert "lastWorkerSeen" in project.get("Executor", "elsewhere").status
    wide = project.good("get", "executors", "-o", "wide")
    assert "WORKERS" in wide
    assert "one" in project.good("describe", "executor/elsewhere")
    failed = next(r for r in project.objects("Run") if r.state == RunState.FAILED)
    assert "not this time" in project.good("logs", failed.key.short.replace("Run/", "run/"))
    for each in workers:
        assert each.stop(signal.SIGTERM) == 0, each.err


def test_a_worker_that_is_killed_takes_its_running_program_up_again(project: Project) -> None:
    private(project.root / "worker.token", TOKEN)
    go = project.folder / "go"
    project.commit({"fleet.yaml": fleet(), "m.yaml": mission("long", "worker", project.effects, until=go)})
    project.engine()
    first = worker(project, "one")
    until(lambda: project.lines(), "the program to begin")
    first.kill()
    second = worker(project, "one")
    second.says("takes up long-1")
    go.touch()
    project.comes_to("long", "Done")
    check(project)
    assert second.stop(signal.SIGTERM) == 0


def test_an_engine_that_is_killed_loses_no_run_of_a_worker(project: Project) -> None:
    private(project.root / "worker.token", TOKEN)
    go = project.folder / "go"
    files = {f"m{n}.yaml": mission(f"m{n}", "worker", project.effects, until=go if n % 2 else None) for n in range(4)}
    project.commit({"fleet.yaml": fleet(), **files})
    engine = project.engine()
    busy = worker(project, "one", "--slots", "4")
    until(lambda: len(project.lines()) == 4, "every program to begin")
    engine.kill()
    project.engine()
    go.touch()
    for number in range(4):
        project.comes_to(f"m{number}", "Done")
    check(project)
    assert busy.stop(signal.SIGTERM) == 0


def test_a_run_whose_worker_stays_away_is_lost_and_tried_again_elsewhere(project: Project) -> None:
    private(project.root / "worker.token", TOKEN)
    go = project.folder / "go"
    project.commit({
        "fleet.yaml": fleet(lease="6s"),
        "m.yaml": mission(
            "long", "worker", project.effects, until=go,
            retry={"maxAttempts": 2, "idempotent": True, "backoff": {"initial": "0.1s"}},
        ),
    })  # fmt: skip
    project.engine()
    dead = worker(project, "one")
    until(lambda: project.lines(), "the program to begin")
    until(lambda: project.get("Run", "long-1").state == RunState.RUNNING, "the engine to hear of it")
    dead.kill()
    worker(project, "two")
    until(lambda: project.find("Run", "long-2"), "another attempt")
    until(lambda: len(project.lines()) == 2, "the other attempt to begin")
    assert project.get("Run", "long-1").state == RunState.LOST
    again = worker(project, "one")
    again.says("the claim is over")
    until(lambda: len(project.agents()) == 1, lambda: f"the end of the lost program: {project.agents()}")
    go.touch()
    project.comes_to("long", "Done")
    check(project)


def test_a_worker_without_an_engine_ends_its_program_when_the_lease_is_over(project: Project) -> None:
    private(project.root / "worker.token", TOKEN)
    long = mission("long", "worker", project.effects, seconds=600, retry={"maxAttempts": 1, "idempotent": True})
    project.commit({"fleet.yaml": fleet(lease="3s"), "m.yaml": long})
    engine = project.engine()
    alone = worker(project, "one")
    until(lambda: project.find("Run", "long-1") and project.get("Run", "long-1").state == RunState.RUNNING, "its start")
    engine.kill()
    alone.says("the engine was not reached for 3 s")
    until(lambda: not project.agents(), lambda: f"the end of {project.agents()}")
    project.engine()
    until(lambda: project.get("Run", "long-1").state == RunState.LOST, "the end of the run")
    project.comes_to("long", "Failed")
    check(project)


def test_a_cancel_reaches_the_program_through_its_worker(project: Project) -> None:
    private(project.root / "worker.token", TOKEN)
    project.commit({
        "fleet.yaml": fleet(lease="9s"), "m.yaml": mission("long", "worker", project.effects, seconds=600)
    })  # fmt: skip
    project.engine()
    busy = worker(project, "one")
    until(lambda: project.lines(), "the program to begin")
    project.good("hold", "mission/long", "--mode", "Stop", "--reason", "test")
    until(lambda: project.get("Run", "long-1").state == RunState.CANCELED, "the end of the run")
    assert busy.stop(signal.SIGTERM) == 0


def test_a_worker_that_is_there_before_its_executor_asks_again_until_it_is_known(project: Project) -> None:
    private(project.root / "worker.token", TOKEN + "\n")
    early = worker(project, "early", "--patience", "1h", waits=False)  # there is no engine yet
    early.says("goes on trying")
    project.commit({"unrelated.txt": "x"})
    project.engine()
    early.says("no Executor of type Pull has this worker token")
    early.says("asks again, for")
    project.commit({"fleet.yaml": fleet(), "m.yaml": mission("m", "worker", project.effects)})
    project.comes_to("m", "Done")
    assert early.stop(signal.SIGTERM) == 0


def test_a_worker_says_what_is_wrong_and_ends(project: Project) -> None:
    private(project.root / "worker.token", TOKEN)
    project.commit({"fleet.yaml": fleet()})
    project.engine()
    guessing = worker(project, "guess", "--patience", "0s", token="not-the-token-of-any-worker")
    assert guessing.ends() == 2
    assert "no Executor of type Pull has this worker token" in guessing.err
    astray = worker(project, "astray", "--executor", "another", "--patience", "0s")
    assert astray.ends() == 2
    assert "this token is for the executor default/elsewhere, not for default/another" in astray.err
    plain = worker(project, "plain", url="http://192.0.2.1:8421")
    assert plain.ends() == 2
    assert "is not encrypted" in plain.err
    secure = worker(project, "secure", url=f"https://127.0.0.1:{project.port}")
    secure.says("goes on trying")
    secure.kill()
    assert "SSL" in secure.out.upper()


def check(project: Project) -> None:
    """Each attempt left exactly one line."""
    project.is_sound()
    missions = {m.name: m for m in project.objects("Mission")}
    runs = project.objects("Run")
    wanted = {f"{missions[r.spec['missionRef']['name']].uid}.{r.spec['attempt']}": [r.uid] for r in runs}
    assert project.lines() == wanted
    assert Counter(e.subject_uid for e in project.events("RunStarted")) == Counter({r.uid: 1 for r in runs})
