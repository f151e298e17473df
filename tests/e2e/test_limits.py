"""Real programs that go around in circles, or spawn others, are held, whatever they do and whoever is killed."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from typing import Any

from schemas.run import ENDED
from tests.e2e.fleet import PROGRAMS, agent, executor, mission, together
from tests.fakes.engine_process import Project, until

SPAWNING = {"autonomyLevel": "Lead", "subAgents": {"allowed": True, "max": 3, "maxDepth": 1, "ttl": "1h"}}


def fleet(**spec: Any) -> str:
    argv = [sys.executable, "-I", "-S", str(PROGRAMS / "circle.py")]
    return together(executor("circle", argv, output="Remit"), agent("circler", "circle", places=3, **spec))


def state(project: Project, name: str) -> str:
    return next((m.state for m in project.objects("Mission") if m.name == name), "")


def open_runs(project: Project) -> list[str]:
    return [r.name for r in project.objects("Run") if r.state not in ENDED]


def test_a_program_that_goes_around_in_circles_is_contained(project: Project) -> None:
    project.commit({"fleet.yaml": fleet(), "m.yaml": mission("round", "circler", project.effects)})
    engine = project.engine()
    until(lambda: state(project, "round") == "Blocked", "the mission to be contained")
    until(lambda: not open_runs(project), "the end of its program, which ignores SIGTERM")
    [alert] = until(lambda: project.objects("Alert"), "the alert")
    assert (alert.spec["type"], alert.spec["details"]["signal"]) == ("LoopDetected", "SameError")
    until(lambda: "Person" in json.dumps(project.get("Mission", "round").status.get("blockedOn")), "the question")
    told = project.good("describe", "mission/round")
    assert "SameError, contained" in told
    assert "grep fails: no match in" in told
    assert "run/round-1 call 4" in told
    assert "loop-summary.md" in told
    project.good("approve", "mission/round")
    until(lambda: state(project, "round") == "Blocked" and len(project.objects("Run")) == 2, "the second containment")
    until(lambda: not open_runs(project), "the end of its program")
    until(lambda: [(a.state, a.status["count"]) for a in project.objects("Alert")] == [("Open", 2)], "the alert again")
    project.ends_well(engine)


def test_sub_agents_live_over_a_killed_engine_and_end_with_their_parent(project: Project) -> None:
    parent = mission("boss", "circler", project.effects)
    parent = parent.replace('"succeedAt": 1', '"role": "parent"')
    project.commit({"fleet.yaml": fleet(**SPAWNING), "m.yaml": parent})
    engine = project.engine()
    hosted = until(lambda: _read(project, "hosted.json"), "the parent to host a sub-agent")
    until(lambda: list(project.effects.glob("child.*")), "the program of the other one")
    assert hosted.get("key"), hosted
    until(lambda: len(open_runs(project)) == 3, lambda: f"three runs: {open_runs(project)}")
    engine.kill()
    engine = project.engine()
    until(lambda: project.good("get", "agents", "-l", "remit.dev/sub-agent=true", "-o", "name"), "the listing")
    url = _agent_url(engine.out)
    assert _beat(url, hosted) == 200
    assert len(open_runs(project)) == 3
    engine.kill()
    engine = project.engine()
    project.commit({"m.yaml": parent.replace("spec:\n", "spec:\n  desiredState: Canceled\n")})
    until(lambda: not open_runs(project), lambda: f"the end of {open_runs(project)}")
    until(lambda: not [a for a in project.objects("Agent") if a.status.get("spawned")], "sub-agents to be put away")
    assert _beat(_agent_url(engine.out), hosted) == 401
    project.ends_well(engine)
    project.nothing_is_left()


def _read(project: Project, name: str) -> dict[str, Any]:
    path = project.effects / name
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _agent_url(said: str) -> str:
    return "http://" + said.split("agents report to")[-1].split()[0]


def _beat(url: str, hosted: dict[str, Any]) -> int:
    request = urllib.request.Request(
        f"{url}/agent/v1/runs/{hosted['hostedRun']}/heartbeat",
        b"{}",
        {"Authorization": f"Bearer {hosted['key']}", "Idempotency-Key": "beat", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as problem:
        problem.close()
        return problem.code
