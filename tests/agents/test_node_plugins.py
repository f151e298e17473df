"""The plugins of OpenClaw and OpenCode as Node runs them: leave lets a call through, and nothing else does."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from remit_client.hooks.settings import FILES, Placed

from tests.fakes.gate import Gate

ALLOW, DENY = (200, {"decision": "allow", "reason": "x"}), (200, {"decision": "deny", "reason": "not today"})
CLAW = """
import plugin from "./index.mjs"
const handlers = {}
const options = {}
plugin.register({ on: (name, handler, opts) => { handlers[name] = handler; options[name] = opts } })
const said = []
for (const [name, event] of JSON.parse(process.argv[2])) {
  const answer = await handlers[name](event, { agentId: "main", sessionKey: "k" })
  said.push(answer === undefined ? null : answer)
}
console.log(JSON.stringify({ said, options, id: plugin.id }))
"""
CODE = """
import { Remit } from "./remit.mjs"
const hooks = await Remit({ directory: process.cwd() })
const [input, args] = JSON.parse(process.argv[2])
let thrown = null
try {
  await hooks["tool.execute.before"](input, { args })
} catch (error) { thrown = error.message }
await hooks["tool.execute.after"]({ ...input, args }, { title: "", output: "o", metadata: {} })
process.stdout.write(JSON.stringify({ thrown }), () => process.exit(0))
"""
CALL = {"toolName": "exec", "params": {"command": "git status"}, "toolCallId": "c1", "runId": "r"}


@pytest.fixture(scope="module", autouse=True)
def node() -> str:
    found = shutil.which("node")
    assert found, "these tests need Node 20 or newer on PATH"
    return found


def write(agent: str, base: Path, placed: Placed) -> None:
    for name, change in FILES[agent].files:
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(change("", placed))


@pytest.fixture
def claw(tmp_path: Path) -> Path:
    """The plugin as installed, with a stand-in for OpenClaw's SDK."""
    write("openclaw", tmp_path, Placed(folder=str(tmp_path / ".openclaw")))
    folder = tmp_path / ".openclaw" / "remit-gate"
    sdk = folder / "node_modules" / "openclaw"
    (sdk / "plugin-sdk").mkdir(parents=True)
    (sdk / "package.json").write_text(
        json.dumps(
            {"name": "openclaw", "type": "module", "exports": {"./plugin-sdk/plugin-entry": "./plugin-sdk/e.js"}}
        )
    )
    (sdk / "plugin-sdk" / "e.js").write_text("export const definePluginEntry = (entry) => entry\n")
    (folder / "run.mjs").write_text(CLAW)
    return folder


def run(program: Path, words: Any, **environ: str) -> dict[str, Any]:
    done = subprocess.run(
        ["node", program.name, json.dumps(words)],
        cwd=program.parent,
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "rmt_run_x" not in done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def before(claw: Path, url: str, **more: str) -> Any:
    environ = {"REMIT_URL": url, "REMIT_TOKEN": "rmt_run_x", **more}
    return run(claw / "run.mjs", [["before_tool_call", CALL]], **environ)["said"][0]


def test_openclaw_goes_on_after_allow_and_reports(claw: Path) -> None:
    after = {**CALL, "result": {"text": "clean"}, "durationMs": 5}
    with Gate(ALLOW, (200, {})).serving() as gate:
        found = run(
            claw / "run.mjs", [["before_tool_call", CALL], ["after_tool_call", after]],
            REMIT_URL=gate.url + "/", REMIT_TOKEN="rmt_run_x", REMIT_WORKSPACE="/w",
        )  # fmt: skip
    assert (found["said"], found["id"]) == ([None, None], "remit-gate")
    assert found["options"]["before_tool_call"]["timeoutMs"] <= 600_000
    (method, path, asked, headers), (_, _, told, _) = gate.asked
    assert (method, path.partition("?")[0]) == ("POST", "/agent/v1/hooks/openclaw")
    assert asked == {"hook": "before_tool_call", "cwd": "/w", **{k: v for k, v in CALL.items() if k != "runId"}}
    assert {k.lower(): v for k, v in headers.items()}["authorization"] == "Bearer rmt_run_x"
    assert (told["hook"], told["durationMs"], told["toolCallId"]) == ("after_tool_call", 5, "c1")


def test_openclaw_is_blocked_in_the_words_of_the_gate_and_a_blocked_call_is_no_result(claw: Path) -> None:
    with Gate(DENY).serving() as gate:
        found = run(
            claw / "run.mjs", [["before_tool_call", CALL], ["after_tool_call", {**CALL, "error": "blocked"}]],
            REMIT_URL=gate.url, REMIT_TOKEN="rmt_run_x",
        )  # fmt: skip
    assert found["said"] == [{"block": True, "blockReason": "not today"}, None]
    assert len(gate.asked) == 1


GARBAGE = [
    (200, b""), (200, b"<html>"), (200, b"null"), (200, []), (200, {"decision": "yes"}), (200, {"decision": ["allow"]}),
    (500, ALLOW[1]), (401, ALLOW[1]), (204, b""), (302, ALLOW[1], {"Location": "/elsewhere"}),
]  # fmt: skip


@pytest.mark.parametrize("answer", GARBAGE, ids=str)
def test_openclaw_is_blocked_by_everything_else(claw: Path, answer: Any) -> None:
    with Gate(answer).serving() as gate:
        assert before(claw, gate.url)["block"] is True


def test_openclaw_is_blocked_without_an_engine(claw: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert before(claw, f"http://127.0.0.1:{taken.getsockname()[1]}")["block"] is True
    assert "not set" in before(claw, "")["blockReason"]
    assert before(claw, "nonsense")["block"] is True
    assert before(claw, "http://127.0.0.1:1", REMIT_TOKEN="")["block"] is True


def test_openclaw_is_blocked_by_an_engine_that_never_answers(claw: Path) -> None:
    text = (claw / "index.mjs").read_text()
    assert "295_000" in text
    (claw / "index.mjs").write_text(text.replace("295_000", "300"))
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        assert before(claw, f"http://127.0.0.1:{deaf.getsockname()[1]}")["block"] is True


@pytest.mark.parametrize("event", [None, {}, {"toolName": 3, "params": None}], ids=str)
def test_openclaw_is_blocked_when_the_event_is_odd(claw: Path, event: Any) -> None:
    with Gate((500, {})).serving() as gate:
        environ = {"REMIT_URL": gate.url, "REMIT_TOKEN": "t"}
        (said,) = run(claw / "run.mjs", [["before_tool_call", event]], **environ)["said"]
    assert said["block"] is True


def code(tmp_path: Path, words: list[str], url: str) -> Any:
    write("opencode", tmp_path, Placed(" ".join(words), 1))
    plugin = tmp_path / ".opencode" / "plugin"
    (plugin / "remit.js").rename(plugin / "remit.mjs")
    (plugin / "run.mjs").write_text(CODE)
    environ = {"REMIT_URL": url, "REMIT_TOKEN": "rmt_run_x", "REMIT_RUN": "r1"}
    environ["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
    call = [{"tool": "bash", "sessionID": "s", "callID": "c1"}, {"command": "git status"}]
    return run(plugin / "run.mjs", call, **environ)["thrown"]


HOOK = [sys.executable, "-m", "remit_client.hooks", "opencode"]


def test_opencode_goes_on_after_allow_and_reports(tmp_path: Path) -> None:
    with Gate((200, {"decision": "allow"}), (200, {"run": "r"})).serving() as gate:
        assert code(tmp_path, HOOK, gate.url) is None
    assert [path for _, path, _, _ in gate.asked] == ["/agent/v1/authorize", "/agent/v1/runs/r1/tool-results"]
    assert gate.asked[1][2]["callKey"] == "c1"


def test_opencode_is_stopped_by_everything_else(tmp_path: Path) -> None:
    with Gate((200, {"decision": "deny", "reason": "not today"})).serving() as gate:
        assert "not today" in code(tmp_path, HOOK, gate.url)
    with Gate((200, b"<html>")).serving() as gate:
        assert "blocks this call" in code(tmp_path, [*HOOK, "--wait=0"], gate.url)
    for broken in (["/no/such/program"], ["false"], ["true"], ["echo", "allow"]):
        assert code(tmp_path, broken, "http://127.0.0.1:1")
