"""Runs that are posted to a worker behind HTTP: a real engine, a real worker process, and what goes wrong between."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.fleet import agent, document, together
from tests.fakes.engine_process import Engine, Project, until
from tests.fakes.ports import free_port
from tests.fakes.secrets import private

WORKER = Path(__file__).parents[1] / "fakes" / "programs" / "http_worker.py"
LINKS = [sys.executable, "-P", "-m", "remit_client.agents.links"]


def fleet(port: int, **http: Any) -> str:
    """An Http executor and an agent of it."""
    block = {"url": f"http://127.0.0.1:{port}/runs", "allowPrivate": True, "auth": {"file": "worker.token"}, **http}
    spec = {
        "type": "Http", "http": block, "retry": {"maxAttempts": 50, "backoff": {"initial": "50ms", "max": "200ms"}},
        "circuitBreaker": {"failureThreshold": 5, "openFor": "3s"},
    }  # fmt: skip
    return together(document("Executor", "elsewhere", spec), agent("crawler", "elsewhere", places=2))


def mission(name: str, **spec: Any) -> str:
    fields = {"title": f"do {name}", "agentRef": {"name": "crawler"}, "review": "None", **spec}
    return document("Mission", name, fields)


def worker(project: Project, port: int, mode: str, *argv: str, faults: str = "") -> Engine:
    """Start a worker, once it listens."""
    private(project.root / "worker.token", "a-token-of-workers-that-is-long")
    folder = project.folder / "elsewhere"
    folder.mkdir(exist_ok=True)
    (folder / "faults").write_text(faults)
    out, err = folder / "out", folder / "err"
    with out.open("wb") as out_file, err.open("ab") as err_file:
        process = subprocess.Popen(
            [sys.executable, str(WORKER), str(port), str(folder), mode, *argv],
            cwd=project.root,
            env=project.environment,
            stdin=subprocess.DEVNULL,
            stdout=out_file,
            stderr=err_file,
            start_new_session=True,
        )
    made = Engine(process, out, err)
    project.engines.append(made)
    made.says("listens")
    return made


def journal(project: Project, word: str) -> list[dict[str, Any]]:
    """What the worker wrote down that has this field."""
    path = project.folder / "elsewhere" / "journal"
    lines = path.read_text().splitlines() if path.exists() else []
    return [entry for entry in map(json.loads, lines) if word in entry]


def circuit(project: Project) -> str:
    return str((project.get("Executor", "elsewhere").status.get("circuit") or {}).get("state", "Closed"))


def test_a_starter_mission_is_done_by_a_worker_that_fails_dies_and_comes_back(project: Project) -> None:
    port = free_port()
    (project.root / "docs").mkdir()
    (project.root / "docs" / "page.md").write_text("# Page\n\n[itself](page.md)\n")
    project.commit({
        "fleet.yaml": fleet(port, idempotent=True),
        "m.yaml": mission("check-links", input={"paths": ["docs"]}, evidence={"required": True}),
    })  # fmt: skip
    first = worker(project, port, "report", *LINKS, faults="503\ndrop\n")
    project.engine()
    project.comes_to("check-links", "Done")
    posted = journal(project, "post")
    assert [entry["fault"] for entry in posted] == ["503", "drop", ""]
    assert len({entry["post"] for entry in posted}) == 1, "one Idempotency-Key"
    assert len(journal(project, "did")) == 1, "the work is done once"
    assert {entry["authorization"] for entry in posted} == {"Bearer a-token-of-workers-that-is-long"}
    log = project.good("logs", "mission/check-links")
    assert "503" in log
    assert f"http://127.0.0.1:{port}/runs" in log
    assert "a-token-of-workers" not in log
    told = project.good("describe", "run/check-links-1")
    assert "202" in told

    first.kill()
    project.commit({"m2.yaml": mission("again", input={"paths": ["docs"]})})
    until(lambda: circuit(project) == "Open", lambda: f"the circuit to open, not {circuit(project)}")
    waiting = until(
        lambda: project.get("Mission", "again").status.get("blockedOn"), "the mission to say what it waits for"
    )
    assert waiting[0]["type"] == "Executor"
    assert waiting[0]["ref"] == "Executor/default/elsewhere"
    worker(project, port, "report", *LINKS)
    project.comes_to("again", "Done")
    until(lambda: circuit(project) == "Closed", "the circuit to close")
    states = [event.reason for event in project.events("CircuitChanged")]
    assert states[0] == "Open"
    assert states[-2:] == ["HalfOpen", "Closed"]
    assert "failures" in project.good("describe", "executor/elsewhere")


def test_an_engine_killed_between_request_and_record_has_the_work_done_once(project: Project) -> None:
    port = free_port()
    project.commit({"fleet.yaml": fleet(port, idempotent=True), "m.yaml": mission("crawl")})
    worker(project, port, "answer", faults="hold\n")
    engine = project.engine()
    until(lambda: journal(project, "did"), "the worker to do the work")
    engine.kill()
    (project.folder / "elsewhere" / "go").touch()
    project.engine()
    project.comes_to("crawl", "Done")
    posted = journal(project, "post")
    assert len(posted) >= 2
    assert len({entry["post"] for entry in posted}) == 1, "one Idempotency-Key"
    assert len(journal(project, "did")) == 1, "the work is done once"
    [run] = project.objects("Run")
    assert run.status["deliverable"]["text"] == "crawled"
