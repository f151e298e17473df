"""Runs as tasks of an A2A service: a real engine, and a real service."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.fleet import agent, document, together
from tests.fakes.engine_process import Engine, Project, until
from tests.fakes.ports import free_port

SERVICE = Path(__file__).parents[1] / "fakes" / "programs" / "a2a_service.py"


def mission(name: str, **spec: Any) -> str:
    return document("Mission", name, {"title": name, "agentRef": {"name": "crawler"}, "review": "None", **spec})


def service(project: Project, port: int) -> None:
    """Start it, once it listens."""
    out, err = project.folder / "out", project.folder / "err"
    with out.open("wb") as out_file, err.open("wb") as err_file:
        process = subprocess.Popen(
            [sys.executable, str(SERVICE), str(port), str(project.folder)],
            cwd=project.root, env=project.environment, stdin=subprocess.DEVNULL, stdout=out_file, stderr=err_file,
            start_new_session=True,
        )  # fmt: skip
    made = Engine(process, out, err)
    project.engines.append(made)
    made.says("listens")


def journal(project: Project, word: str) -> list[dict[str, Any]]:
    path = project.folder / "journal"
    lines = path.read_text().splitlines() if path.exists() else []
    return [entry for entry in map(json.loads, lines) if word in entry]


def test_missions_are_tasks_of_a_service_that_does_fails_asks_or_is_told_to_stop(project: Project) -> None:
    port = free_port()
    a2a = {"url": f"http://127.0.0.1:{port}", "allowPrivate": True, "skill": "work", "pollInterval": "200ms"}
    fleet = together(
        document("Executor", "elsewhere", {"type": "A2A", "a2a": a2a}), agent("crawler", "elsewhere", places=4)
    )
    names = ("do-it", "fail-it", "ask-it", "wait-for-it")
    service(project, port)
    project.engine()
    project.commit({"fleet.yaml": fleet, **{f"{name}.yaml": mission(name) for name in names}})
    project.comes_to("do-it", "Done")
    assert project.get("Run", "do-it-1").status["deliverable"]["text"] == "did: # do-it"
    project.comes_to("fail-it", "Failed")
    assert "it cannot be done" in project.get("Run", "fail-it-1").status["message"]
    project.comes_to("ask-it", "Failed")
    assert "which one?" in project.get("Run", "ask-it-1").status["message"]
    until(lambda: project.get("Run", "wait-for-it-1").state == "Running", "the task that waits to be at work")
    project.good("cancel", "wait-for-it", "--reason", "not needed")
    project.comes_to("wait-for-it", "Canceled")
    until(lambda: journal(project, "cancelled"), "the service to be told")
    assert project.get("Run", "wait-for-it-1").state == "Canceled"
    begun = journal(project, "began")
    assert len(begun) == len({entry["began"] for entry in begun}) == len(names)
    assert {entry["mission"] for entry in begun} == {m.uid for m in project.objects("Mission")}
