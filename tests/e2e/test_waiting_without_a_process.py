"""A run that waits for a person holds no process: its program stops, the engine may be killed, and once the answer is
there the program is started again with its own session, once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.e2e.fleet import PROGRAMS, agent, document, mission, together
from tests.fakes.engine_process import Project, until


def fleet(project: Project, program: Path) -> str:
    start = [sys.executable, "-I", str(program), "-p"]
    command = {
        "argv": [*start, "Work."],
        "resume": [*start, "--resume", "{session}"],
        "hook": "Claude",
        "outputFormat": "ClaudeJson",
        "workingDir": "workspace",
        "stopGrace": "1s",
    }
    ask = {"name": "ask", "match": {"tools": ["shell_exec"]}, "verdict": "RequireApproval"}
    return together(
        document("Executor", "coder", {"type": "Command", "command": command}),
        agent("coder", "coder", autonomyLevel="Lead", tools=[{"name": "shell_exec"}]),
        document("Policy", "house", {"rules": [ask]}),
        mission("ship", "coder", project.effects),
    )


def waiting(project: Project) -> list[str]:
    return [r.name for r in project.objects("ApprovalRequest") if r.state == "Pending"]


@pytest.mark.timeout(600)
def test_a_session_waits_without_a_process_and_goes_on_once_over_kill_9(project: Project, tmp_path: Path) -> None:
    program = tmp_path / "claude"
    program.symlink_to(PROGRAMS / "deferring.py")
    project.commit({"fleet.yaml": fleet(project, program)})
    engine = project.engine()
    until(lambda: waiting(project), "the question")
    until(lambda: not project.agents() and project.get("Run", "ship-1").state == "Failed", "the end of the program")
    assert project.state("ship") == "NeedsApproval"
    assert project.get("Run", "ship-1").status["reason"] == "AwaitingApproval"
    engine.kill()
    engine = project.engine()
    assert not project.agents()
    project.good("approve", waiting(project)[0], "--no-wait")
    engine.kill()  # with the answer in the store and nothing more
    engine = project.engine()
    until(lambda: project.find("Run", "ship-2"), "the run that goes on")
    engine.kill()  # around its start
    project.engine()
    project.comes_to("ship", "Done")
    uid = project.get("Mission", "ship").uid
    assert (project.effects / f"{uid}.starts").read_text().split() == ["begin", "resume"]
    assert (project.effects / f"{uid}.act").read_text().split() == ["pushed"]
    second = project.get("Run", "ship-2")
    assert second.spec["resumes"]["name"] == "ship-1"
    assert (second.state, second.status["sessionId"]) == ("Succeeded", second.spec["resumes"]["session"])
    [request] = project.objects("ApprovalRequest")
    assert request.status["uses"] == 1
    status = project.get("Mission", "ship").status
    assert (status["attempts"], status["totalRuns"]) == (1, 2)
    assert project.get("Executor", "coder").status["capabilities"]["resume"] is True
