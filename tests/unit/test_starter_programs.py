"""The starter agents as real processes against a server of the agent protocol."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.agent_server import AgentServer, Fault, restarting
from tests.fakes.repos import Repo

NAMES = ("links", "digest", "markers", "inventory", "report", "tags")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def server() -> Iterator[AgentServer]:
    with AgentServer() as server:
        yield server


def command(
    server: AgentServer, name: str, cwd: Path, tmp: Path, mission: dict[str, Any], **env: str
) -> tuple[list[str], dict[str, Any]]:
    """What starts an agent as the Command executor would."""
    path = tmp / "mission.json"
    path.write_text(json.dumps({"uid": "mission-uid-1", "title": "t", **mission}))
    home = tmp / "home"
    home.mkdir(exist_ok=True)
    environ = server.environ(
        PATH=os.environ["PATH"],
        HOME=str(home),
        LANG="C.UTF-8",
        PYTHONWARNINGS="error",
        REMIT_MISSION_FILE=str(path),
        **env,
    )
    return [sys.executable, "-P", "-m", f"remit_client.agents.{name}"], {"env": environ, "cwd": cwd}


def run_agent(
    server: AgentServer, name: str, cwd: Path, tmp: Path, mission: dict[str, Any] | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    argv, options = command(server, name, cwd, tmp, mission or {}, **env)
    return subprocess.run(
        argv, **options, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=170, check=False
    )


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path / "project")
    repo.commit({"README.md": "# Hello\n\n[a](docs/a.md#use)\n", "docs/a.md": "# A\n\n## Use\n"}, message="Add docs")
    repo.commit({"src/a.py": "x = 1\n"}, message="Write a")
    return repo


@pytest.mark.parametrize("name", NAMES)
def test_every_agent_reports_plan_progress_usage_evidence_and_its_deliverable(
    server: AgentServer, repo: Repo, tmp_path: Path, name: str
) -> None:
    given = {"input": {"failWhenCold": False}} if name == "inventory" else {}
    done = run_agent(server, name, repo.path, tmp_path, given)
    assert done.returncode == 0, done.stderr
    first = server.done("progress")[0]
    assert first["workPlan"]
    assert server.done("usage") == [{"source": "Reported", "usd": "0", "inputTokens": 0, "outputTokens": 0}]
    (complete,) = server.done("complete")
    assert complete["deliverable"]["mediaType"] == "text/markdown"
    assert complete["deliverable"]["text"].startswith("# ")
    assert complete["selfReview"]
    assert complete["evidence"] == [a["name"] for a in server.done("artifacts")]
    for artifact in server.done("artifacts"):
        json.loads(artifact["text"])
    assert server.of("heartbeat")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_the_same_input_gives_the_same_deliverable(server: AgentServer, repo: Repo, tmp_path: Path, name: str) -> None:
    given = {"input": {"failWhenCold": False}} if name == "inventory" else {}
    texts = []
    for number in range(2):
        with AgentServer() as other:
            assert run_agent(other, name, repo.path, tmp_path, given, LC_ALL=["C", "C.UTF-8"][number]).returncode == 0
            texts.append((other.deliverable["text"], [a["text"] for a in other.done("artifacts")]))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", ["links", "digest", "markers", "inventory"])
def test_the_work_on_this_repository_takes_less_than_five_seconds(
    server: AgentServer, tmp_path: Path, name: str
) -> None:
    given: dict[str, Any] = {"input": {}}
    if name == "inventory":
        given["input"] = {"failWhenCold": False}
    began = time.process_time_ns(), os.times().children_user + os.times().children_system
    done = run_agent(server, name, ROOT, tmp_path, given, XDG_CACHE_HOME=str(tmp_path / "cache"))
    used = os.times().children_user + os.times().children_system - began[1]
    assert done.returncode in (0, 1), done.stderr
    assert used < 5
    assert server.ended


@pytest.mark.parametrize("name", NAMES)
def test_a_misspelt_option_is_refused_with_a_suggestion(
    server: AgentServer, repo: Repo, tmp_path: Path, name: str
) -> None:
    done = run_agent(server, name, repo.path, tmp_path, {"input": {"timeLimitSecond": 5}})
    assert done.returncode == 1
    (fail,) = server.done("fail")
    assert (fail["reason"], fail["retryable"]) == ("InvalidInput", False)
    assert "did you mean timeLimitSeconds?" in fail["message"]


ROOTS = ("..", "/etc", "out", "docs/../..", "nothing", "loop", "README.md")


@pytest.mark.parametrize(
    ("name", "root"),
    [*(("links", root) for root in ROOTS), ("digest", "out"), ("markers", ".."), ("inventory", "loop")],
)
def test_a_root_outside_of_the_project_is_refused(
    server: AgentServer, repo: Repo, tmp_path: Path, name: str, root: str
) -> None:
    (repo.path / "out").symlink_to("/etc")
    (repo.path / "loop").symlink_to("loop")
    assert run_agent(server, name, repo.path, tmp_path, {"input": {"root": root}}).returncode == 1
    assert server.done("fail")[0]["reason"] in ("OutsideProject", "RootNotFound")
    assert not server.done("complete")


def test_a_program_that_remit_did_not_start_says_so(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "remit_client.agents.links"]
    done = subprocess.run(argv, env={}, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "REMIT_URL is not set" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_modules_that_lie_in_the_project_are_not_imported(
    server: AgentServer, repo: Repo, tmp_path: Path, name: str
) -> None:
    for module in ("json", "httpx2", "remit_client", "signal", "subprocess", "sitecustomize", "types"):
        repo.write(f"{module}.py", f"open({str(tmp_path / 'sprung')!r}, 'w')\nraise SystemExit(9)\n")
    done = run_agent(server, name, repo.path, tmp_path)
    assert done.returncode in (0, 75), done.stderr
    assert not (tmp_path / "sprung").exists()


def test_a_broken_link_fails_the_run_and_the_report_is_kept(server: AgentServer, repo: Repo, tmp_path: Path) -> None:
    repo.write("README.md", "# Hello\n\n[a](gone.md)\n")
    done = run_agent(server, "links", repo.path, tmp_path)
    assert done.returncode == 1
    (fail,) = server.done("fail")
    assert (fail["reason"], fail["retryable"]) == ("BrokenLinks", False)
    assert "README.md:3 gone.md" in fail["message"]
    assert "`README.md:3` `gone.md`" in server.artifact("links.md")
    assert json.loads(server.artifact("links.json"))["broken"][0]["line"] == 3


def test_with_fail_on_broken_off_the_report_is_handed_in(server: AgentServer, repo: Repo, tmp_path: Path) -> None:
    repo.write("README.md", "[a](gone.md)\n")
    done = run_agent(server, "links", repo.path, tmp_path, {"input": {"failOnBroken": False}})
    assert done.returncode == 0
    assert "1 broken link in 1 file" in server.deliverable["text"]


def test_the_first_attempt_finds_the_index_cold_and_the_second_succeeds(repo: Repo, tmp_path: Path) -> None:
    with AgentServer(run="run-uid-1") as first:
        done = run_agent(first, "inventory", repo.path, tmp_path)
        assert done.returncode == 75
        (fail,) = first.done("fail")
        assert (fail["reason"], fail["retryable"]) == ("IndexCold", True)
        assert fail["message"].startswith("the index was cold; it is built now")
    with AgentServer(run="run-uid-2") as second:
        assert run_agent(second, "inventory", repo.path, tmp_path, {"attempt": 2}).returncode == 0
        assert "3 files" in second.deliverable["text"]
    with AgentServer(run="run-uid-3") as other:
        assert run_agent(other, "inventory", repo.path, tmp_path, {"uid": "another"}).returncode == 75


def test_a_cancel_stops_an_agent_at_its_next_step(server: AgentServer, repo: Repo, tmp_path: Path) -> None:
    server.notify("Cancel", reason="not needed")
    server.fault("progress", Fault(status=200, body=b"{}", after=("inbox", 2), execute=True))
    done = run_agent(server, "markers", repo.path, tmp_path)
    assert done.returncode == 130
    assert server.done("fail") == [{"reason": "Canceled", "message": "not needed", "retryable": False}]


@pytest.mark.parametrize("name", NAMES)
def test_sigterm_reports_the_end_at_once(server: AgentServer, repo: Repo, tmp_path: Path, name: str) -> None:
    server.fault("progress", *[Fault(delay_s=8)] * 3)
    argv, options = command(server, name, repo.path, tmp_path, {})
    child = subprocess.Popen(argv, **options, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    server.wait_for("progress")
    child.send_signal(signal.SIGTERM)
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 130, errors
    assert server.done("fail")[0]["reason"] == "Canceled"


def test_a_restart_of_the_engine_in_the_middle_of_a_run_goes_unnoticed(
    server: AgentServer, repo: Repo, tmp_path: Path
) -> None:
    argv, options = command(server, "links", repo.path, tmp_path, {})
    with restarting(server, 1.5):
        child = subprocess.Popen(argv, **options, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors
    assert server.ended == "complete"


def test_a_token_that_dies_ends_the_program_without_a_traceback(
    server: AgentServer, repo: Repo, tmp_path: Path
) -> None:
    server.token_dead = True
    done = run_agent(server, "links", repo.path, tmp_path)
    assert done.returncode in (1, 130)
    assert "the run is over" in done.stderr or "not valid" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_token_reaches_neither_log_nor_deliverable(server: AgentServer, repo: Repo, tmp_path: Path) -> None:
    for name in NAMES:
        with AgentServer() as other:
            done = run_agent(other, name, repo.path, tmp_path)
            assert other.token not in done.stdout + done.stderr
            assert all(other.token not in json.dumps(r.body) for r in other.received)


def test_the_mission_may_come_on_standard_input(server: AgentServer, repo: Repo, tmp_path: Path) -> None:
    argv, options = command(server, "report", repo.path, tmp_path, {})
    del options["env"]["REMIT_MISSION_FILE"]
    mission = json.dumps({"dependencies": [{"name": "x", "state": "Done", "deliverable": {"text": "hi"}}]})
    done = subprocess.run(argv, **options, input=mission, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "hi" in server.deliverable["text"]


def test_the_tagger_asks_waits_and_pushes_once(server: AgentServer, repo: Repo, tmp_path: Path) -> None:
    server.decide("ask", approvalRequest="tag-release-action-1")
    argv, options = command(server, "tags", repo.path, tmp_path, {"input": {"tag": "v2"}})
    child = subprocess.Popen(argv, **options, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    server.wait_for("decision-1")
    bare = repo.path / ".remit/agents/tags/releases.git"
    assert not (bare / "refs/tags/v2").exists()
    server.decide("allow")
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors
    commit = (bare / "refs/tags/v2").read_text().strip()
    (asked,) = server.done("authorize")
    assert asked["args"] == {"repository": "releases.git", "tag": "v2", "commit": commit}
    assert server.done("tool-results") == [{"tool": "push_tag", "ok": True, "decisionId": "decision-1"}]
    with AgentServer() as other:
        other.decide("deny")
        assert run_agent(other, "tags", repo.path, tmp_path, {"input": {"tag": "v2"}}).returncode == 0
        assert other.done("authorize") == [], "a tag that stands is not pushed again"


def test_a_refusal_ends_the_tagger_without_a_push(server: AgentServer, repo: Repo, tmp_path: Path) -> None:
    server.decide("deny", reason="user:alice refused: not today")
    done = run_agent(server, "tags", repo.path, tmp_path)
    assert done.returncode == 1
    (fail,) = server.done("fail")
    assert (fail["reason"], fail["retryable"]) == ("Denied", False)
    assert "not today" in fail["message"]
    assert not list((repo.path / ".remit/agents/tags/releases.git/refs/tags").glob("*"))
