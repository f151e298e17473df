"""Hooks of coding agents against an engine on a port: inputs as the agents document them, answers as they take them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from remit_client.hooks import asking
from remit_client.hooks.dialects import DIALECTS
from remit_client.hooks.endings import digest

from schemas.protocol import ToolResultMessage
from tests.fakes.gate import Gate

ALLOW = (200, {"decision": "allow", "reason": "Green", "rule": "the table", "decisionId": "d1"})
DENY = (200, {"decision": "deny", "reason": "History is shared.", "rule": "rule no-force", "decisionId": "d1"})
ASK = (200, {"decision": "ask", "reason": "Red", "rule": "", "decisionId": "d/1", "approvalRequest": "approval/a-1"})


def claude(workspace: Path, tool: str = "Bash", **arguments: Any) -> dict[str, Any]:
    return {
        "session_id": "abc", "transcript_path": "/t.jsonl", "cwd": str(workspace), "permission_mode": "default",
        "hook_event_name": "PreToolUse", "tool_name": tool, "tool_use_id": "toolu_01",
        "tool_input": arguments or {"command": "git status", "description": "look"},
    }  # fmt: skip


def gemini(workspace: Path) -> dict[str, Any]:
    return {
        "session_id": "s", "transcript_path": "/t", "cwd": str(workspace), "hook_event_name": "BeforeTool",
        "timestamp": "2026-01-01T00:00:00Z", "tool_name": "run_shell_command", "tool_input": {"command": "git status"},
    }  # fmt: skip


def opencode(workspace: Path) -> dict[str, Any]:
    return {"tool": "bash", "sessionID": "s", "callID": "c1", "cwd": str(workspace), "args": {"command": "git status"}}


def cursor(workspace: Path) -> dict[str, Any]:
    return {
        "conversation_id": "c", "generation_id": "g", "hook_event_name": "beforeShellExecution",
        "workspace_roots": [str(workspace)], "command": "git status", "cwd": str(workspace),
    }  # fmt: skip


EVENTS = {
    "claude": claude,
    "codex": lambda workspace: {**claude(workspace), "turn_id": "t", "model": "m"},
    "gemini": gemini,
    "opencode": opencode,
    "cursor": cursor,
}


def hook(
    agent: str, event: Any, workspace: Path, *options: str, url: str | None, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the hook as the agent would."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **more}
    if url is not None:
        environ |= {"REMIT_URL": url, "REMIT_TOKEN": "rmt_run_x", "REMIT_RUN": "r1"}
    return subprocess.run(
        [sys.executable, "-m", "remit_client.hooks", agent, *options],
        input=event if isinstance(event, str) else json.dumps(event),
        env=environ,
        cwd=workspace,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def blocks(done: subprocess.CompletedProcess[str]) -> bool:
    """Every agent takes this for a no: code 2 and words on standard error."""
    return done.returncode == 2 and done.stderr.startswith("Remit blocks this call: ") and not done.stdout


@pytest.mark.parametrize("agent", DIALECTS)
def test_an_allowed_call_is_let_through_in_the_words_of_the_agent(agent: str, tmp_path: Path) -> None:
    with Gate(ALLOW).serving() as gate:
        done = hook(agent, EVENTS[agent](tmp_path), tmp_path, url=gate.url)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout) if done.stdout else None
    assert {
        "claude": lambda: said["hookSpecificOutput"]["permissionDecision"] == "allow",
        "codex": lambda: said is None,  # silence is leave; the word allow is not understood
        "gemini": lambda: said == {"decision": "allow"},
        "opencode": lambda: said["decision"] == "allow",
        "cursor": lambda: said == {"permission": "allow"},
    }[agent]()
    ((method, path, body, headers),) = gate.asked
    assert (method, path, headers["Authorization"]) == ("POST", "/agent/v1/authorize", "Bearer rmt_run_x")
    assert (body["tool"], body["args"]["command"]) == ("shell_exec", "git status")
    assert "cwd" not in body["args"]
    assert body["idempotencyKey"] == headers["Idempotency-Key"] != ""


@pytest.mark.parametrize("agent", DIALECTS)
def test_a_denied_call_is_blocked_and_the_agent_is_told_why(agent: str, tmp_path: Path) -> None:
    with Gate(DENY).serving() as gate:
        done = hook(agent, EVENTS[agent](tmp_path), tmp_path, url=gate.url)
    said = json.loads(done.stdout)
    told = {
        "claude": lambda: said["hookSpecificOutput"],
        "codex": lambda: said["hookSpecificOutput"],
        "gemini": lambda: said,
        "opencode": lambda: said,
        "cursor": lambda: said,
    }[agent]()
    word = told.get("permissionDecision") or told.get("decision") or told.get("permission")
    assert (done.returncode, word) == (0, "deny")
    assert "Remit: History is shared. [rule no-force]" in told.values()


@pytest.mark.parametrize("agent", DIALECTS)
def test_what_a_person_has_to_answer_is_waited_for(agent: str, tmp_path: Path) -> None:
    with Gate(ASK, ASK, ALLOW).serving() as gate:
        done = hook(agent, EVENTS[agent](tmp_path), tmp_path, url=gate.url)
    assert done.returncode == 0
    assert "deny" not in done.stdout
    assert [path.partition("?")[0] for _, path, _, _ in gate.asked[1:]] == ["/agent/v1/decisions/d%2F1"] * 2


@pytest.mark.parametrize("agent", DIALECTS)
def test_without_an_answer_in_time_the_call_is_denied_and_may_be_tried_again(agent: str, tmp_path: Path) -> None:
    with Gate(ASK).serving() as gate:
        done = hook(agent, EVENTS[agent](tmp_path), tmp_path, "--wait", "0", url=gate.url)
    assert (done.returncode, "deny" in done.stdout, "approval/a-1" in done.stdout) == (0, True, True)
    assert "ask" not in json.loads(done.stdout).values()


def test_claude_is_paused_where_that_is_wanted(tmp_path: Path) -> None:
    with Gate(ASK).serving() as gate:
        done = hook("claude", claude(tmp_path), tmp_path, "--defer", "--wait=0", url=gate.url)
    assert json.loads(done.stdout)["hookSpecificOutput"]["permissionDecision"] == "defer"


def test_the_agents_own_prompts_may_stay_in_force(tmp_path: Path) -> None:
    with Gate(ALLOW, DENY).serving() as gate:
        assert hook("claude", claude(tmp_path), tmp_path, "--keep-prompts", url=gate.url).stdout == ""
        assert '"deny"' in hook("claude", claude(tmp_path), tmp_path, "--keep-prompts", url=gate.url).stdout


GARBAGE = [
    (200, b""), (200, b"<html>"), (200, []), (200, {"decision": "yes"}), (200, {"decision": ["allow"]}),
    (200, b"[" * 100_000), (200, {"decision": "ask"}), (302, {"decision": "allow"}, {"Location": "/elsewhere"}),
    (400, {"decision": "allow"}), (401, {"title": "over"}), (403, ALLOW[1]), (404, ALLOW[1]), (500, ALLOW[1]),
]  # fmt: skip


@pytest.mark.parametrize("answer", GARBAGE, ids=str)
def test_no_proper_answer_is_no_leave(answer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "RESTART_S", 0.2)
    engine = asking.Engine.from_environment({"REMIT_URL": "http://127.0.0.1:1", "REMIT_TOKEN": "t"})
    with Gate(answer).serving() as gate:
        engine = asking.Engine.from_environment({"REMIT_URL": gate.url, "REMIT_TOKEN": "t"})
        with pytest.raises((asking.NoAnswer, RecursionError)):
            asking.ask(engine, asking.ToolCall("shell_exec", {}), 3)


@pytest.mark.parametrize("agent", DIALECTS)
@pytest.mark.parametrize(
    "event",
    ["", "{", "[]", "null", "[" * 200_000, '{"hook_event_name": "New"}', '{"tool": 3, "tool_name": 3}', "\x00", "{}"],
    ids=lambda text: text[:12] or "nothing",
)
def test_an_event_that_is_not_understood_is_blocked(agent: str, event: str, tmp_path: Path) -> None:
    assert blocks(hook(agent, event, tmp_path, url="http://127.0.0.1:1"))


def test_a_closed_port_is_waited_for_a_while_and_then_blocks(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = hook("gemini", gemini(tmp_path), tmp_path, "--wait", "1", url=url)
    assert blocks(done)
    assert "gives no answer" in done.stderr


def test_an_engine_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        done = hook("claude", claude(tmp_path), tmp_path, "--wait", "1", url=url)
    assert blocks(done)


def test_an_engine_that_restarts_is_waited_for(tmp_path: Path) -> None:
    with Gate((503, {"title": "starting"}), (502, b"x"), (429, {}, {"Retry-After": "0"}), ALLOW).serving() as gate:
        done = hook("claude", claude(tmp_path), tmp_path, url=gate.url)
    assert '"allow"' in done.stdout
    assert len({headers["Idempotency-Key"] for _, _, _, headers in gate.asked}) == 1


def test_an_agent_that_remit_did_not_start_is_denied_unless_that_is_declared_otherwise(tmp_path: Path) -> None:
    assert blocks(hook("claude", claude(tmp_path), tmp_path, url=None))
    done = hook("claude", claude(tmp_path), tmp_path, "--outside", "pass", url=None)
    assert (done.returncode, done.stdout) == (0, "")
    # Half of what a run is given is no "outside": somebody took the other half away.
    assert blocks(hook("claude", claude(tmp_path), tmp_path, "--outside", "pass", url=None, REMIT_TOKEN="t"))


@pytest.mark.parametrize("option", ["--waits", "--wait=x", "--outside=maybe", "extra"])
def test_a_wrong_option_blocks(option: str, tmp_path: Path) -> None:
    assert blocks(hook("claude", claude(tmp_path), tmp_path, option, url=None))


def test_other_events_pass_without_a_word(tmp_path: Path) -> None:
    for agent, event in (("claude", "Stop"), ("codex", "Stop"), ("gemini", "AfterModel"), ("cursor", "stop")):
        done = hook(agent, {"hook_event_name": event}, tmp_path, url=None)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_token_is_never_said(tmp_path: Path) -> None:
    done = hook("claude", claude(tmp_path), tmp_path, "--wait=0", url="http://127.0.0.1:1")
    assert "rmt_run_x" not in done.stdout + done.stderr


def test_the_command_is_the_same_program(tmp_path: Path) -> None:
    program = "import sys; sys.argv = ['remit', 'hook', *sys.argv[1:]]; from cli.entry import main; main()"
    with Gate(DENY).serving() as gate:
        done = subprocess.run(
            [sys.executable, "-c", program, "claude"],
            input=json.dumps(claude(tmp_path)),
            env={**os.environ, "REMIT_URL": gate.url, "REMIT_TOKEN": "t"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert '"deny"' in done.stdout


def test_a_hook_loads_little() -> None:
    program = "import sys; import remit_client.hooks.main; print(*{n.partition('.')[0] for n in sys.modules})"
    names = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"httpx2", "typer", "pydantic", "asyncio", "cli"} & set(names)


def ended(agent: str, workspace: Path, *, ok: bool = True) -> dict[str, Any]:
    """What the agent says after the call of ``EVENTS``."""
    event = EVENTS[agent](workspace)
    if agent == "opencode":
        return {**event, "event": "after", "output": "clean"}
    if agent == "gemini":
        answer = {"llmContent": "clean"} if ok else {"error": {"message": "no such command"}}
        return {**event, "hook_event_name": "AfterTool", "tool_response": answer}
    if agent == "cursor":
        told = {"tool_output": "clean", "duration": 7} if ok else {"error_message": "no such command"}
        name = "postToolUse" if ok else "postToolUseFailure"
        return {
            "hook_event_name": name, "workspace_roots": [], "tool_name": "Shell", "cwd": str(workspace),
            "tool_input": json.dumps({"command": "git status"}), "tool_use_id": "u1", **told,
        }  # fmt: skip
    told = {"tool_response": {"stdout": "clean"}, "duration_ms": 7} if ok else {"error": "no such command"}
    return {**event, "hook_event_name": "PostToolUse" if ok else "PostToolUseFailure", **told}


@pytest.mark.parametrize("agent", DIALECTS)
def test_what_came_of_a_call_is_reported_for_the_call_that_was_asked_for(agent: str, tmp_path: Path) -> None:
    with Gate(ALLOW, (200, {"run": "r"})).serving() as gate:
        hook(agent, EVENTS[agent](tmp_path), tmp_path, url=gate.url)
        done = hook(agent, ended(agent, tmp_path), tmp_path, url=gate.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (_, _, asked, _), (method, path, told, headers) = gate.asked
    assert (method, path) == ("POST", "/agent/v1/runs/r1/tool-results")
    assert (told["tool"], told["ok"]) == (asked["tool"], True)
    assert told["argsDigest"] == digest(asked["args"])
    keys = {"claude": "toolu_01", "codex": "toolu_01", "opencode": "c1", "cursor": "u1"}
    assert told.get("callKey") == keys.get(agent)
    assert told["outputDigest"].startswith("sha256:")
    assert headers["Idempotency-Key"]
    ToolResultMessage.model_validate(told)


@pytest.mark.parametrize("agent", ["claude", "gemini", "cursor"])
def test_a_call_that_failed_is_reported_as_such(agent: str, tmp_path: Path) -> None:
    with Gate((200, {"run": "r"})).serving() as gate:
        hook(agent, ended(agent, tmp_path, ok=False), tmp_path, url=gate.url)
    ((_, _, told, _),) = gate.asked
    assert (told["ok"], "no such command" in told["error"]) == (False, True)


def test_a_call_that_cursor_did_not_let_run_is_no_result(tmp_path: Path) -> None:
    event = {**ended("cursor", tmp_path, ok=False), "failure_type": "permission_denied"}
    with Gate((200, {})).serving() as gate:
        done = hook("cursor", event, tmp_path, url=gate.url)
    assert (done.returncode, gate.asked) == (0, [])


@pytest.mark.parametrize(
    "answer", [(500, {"detail": "x"}), (409, {"detail": "CallEnded"}), (200, b"[]"), (503, {})], ids=str
)
def test_a_report_that_is_not_taken_holds_nothing_up(answer: Any, tmp_path: Path) -> None:
    with Gate(answer).serving() as gate:
        done = hook("claude", ended("claude", tmp_path), tmp_path, url=gate.url)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("Remit: the result was not reported")


def test_a_placed_hook_speaks_with_its_own_token_or_not_at_all(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("rmt_hook_y\n")
    with Gate(ALLOW).serving() as gate:
        hook("claude", claude(tmp_path), tmp_path, f"--token-file={token}", url=gate.url)
        assert gate.asked[0][3]["Authorization"] == "Bearer rmt_hook_y"
        for broken in (tmp_path / "none", tmp_path):
            assert blocks(hook("claude", claude(tmp_path), tmp_path, f"--token-file={broken}", url=gate.url))
        token.write_text("")
        assert blocks(hook("claude", claude(tmp_path), tmp_path, f"--token-file={token}", url=gate.url))
    assert len(gate.asked) == 1
