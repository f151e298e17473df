"""The hook that an executor puts before a coding agent: a program in the agent's place, started as the engine does."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from decisions.widening import widenings
from schemas.executor import Command, ExecutorSpec, HookedProgram
from schemas.run import RunState
from tests.fakes.gate import Gate
from tests.integration.test_command_executor import only_life, order

STAND_IN = """#!{python}
import json, os, subprocess, sys
from pathlib import Path
settings = json.loads((Path.home() / ".claude/settings.json").read_text())
said = {{"argv": sys.argv[1:], "token": os.environ["REMIT_TOKEN"]}}
for name in ("PreToolUse", "PostToolUse"):
    (hook,) = settings["hooks"][name][0]["hooks"]
    event = {{"hook_event_name": name, "cwd": os.getcwd(), "tool_name": "Read", "tool_use_id": "t1",
             "tool_input": {{"file_path": os.getcwd() + "/a"}}, "tool_response": "x"}}
    done = subprocess.run(hook["command"], shell=True, input=json.dumps(event), capture_output=True, text=True)
    said[name] = [done.returncode, done.stdout, done.stderr]
print(json.dumps(said))
"""


@pytest.mark.asyncio
async def test_a_hooked_program_finds_the_hook_in_its_own_settings(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    program = tmp_path / "project" / "claude"
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(0o755)
    # A module of the hook's name in the folder under work must not become the hook.
    (tmp_path / "project" / "remit_client").mkdir()
    (tmp_path / "project" / "remit_client" / "__init__.py").write_text("raise SystemExit(0)")
    env = [{"name": "PYTHONPATH", "value": os.environ.get("PYTHONPATH", "")}]
    with Gate((200, {"decision": "allow", "reason": "fine"}), (200, {"run": "r"})).serving() as gate:
        job = order(tmp_path, [str(program), "-p", "hello"], hook="Claude", env=env, outputFormat="Text")
        job = type(job)(**{f: getattr(job, f) for f in job.__dataclass_fields__} | {
            "agent_url": gate.url, "hook_token": "rmt_hook_of-the-run",
        })  # fmt: skip
        async with only_life(tmp_path) as engine:
            await engine.executor.start(job)
            ended = await engine.outcome()
            assert ended.outcome.state is RunState.SUCCEEDED, ended.outcome
            home = tmp_path / "state" / "runs" / "uid-1" / "home"
            assert (home / ".remit" / "hook-token").stat().st_mode & 0o777 == 0o600
    assert ended.outcome.result is not None
    said = json.loads(ended.outcome.result["deliverable"])
    assert said["argv"] == ["--setting-sources", "user", "-p", "hello"]
    assert json.loads(said["PreToolUse"][1])["hookSpecificOutput"]["permissionDecision"] == "allow"
    assert said["PostToolUse"] == [0, "", ""]
    (_, path, asked, headers), (_, told_at, told, _) = gate.asked
    assert (path, headers["Authorization"]) == ("/agent/v1/authorize", "Bearer rmt_hook_of-the-run")
    assert asked["args"] == {"path": "a"}, "paths count from REMIT_WORKSPACE"
    assert (told_at, told["callKey"]) == ("/agent/v1/runs/uid-1/tool-results", "t1")


def command(hook: str, *argv: str, **more: Any) -> Command:
    return Command.model_validate({"argv": argv, "hook": hook, **more})


def test_a_hooked_program_has_to_be_one() -> None:
    for program, name in (
        ("Claude", "claude"),
        ("Gemini", "gemini"),
        ("OpenCode", "opencode"),
        ("Cursor", "cursor-agent"),
    ):
        assert command(program, "bwrap", "--ro-bind", "/", "/", f"/opt/{name}", "-p").hook == HookedProgram(program)
    with pytest.raises(ValidationError, match="argv names no claude"):
        command("Claude", "claude-wrapper", "-p")


@pytest.mark.parametrize("switch", ["--bare", "--safe-mode", "--settings=x", "--setting-sources"])
def test_arguments_that_take_the_hook_away_are_refused(switch: str) -> None:
    with pytest.raises(ValidationError, match="does not go with hook"):
        command("Claude", "claude", switch)


def test_codex_has_to_be_told_to_trust_the_hook() -> None:
    with pytest.raises(ValidationError, match="bypass-hook-trust"):
        command("Codex", "codex", "exec")
    assert command("Codex", "codex", "exec", "--dangerously-bypass-hook-trust").hook is HookedProgram.CODEX


@pytest.mark.parametrize("name", ["HOME", "CLAUDE_CONFIG_DIR", "XDG_CONFIG_HOME"])
def test_settings_that_lie_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="own HOME"):
        command("Claude", "claude", env=[{"name": name, "value": "/x"}])


def test_workers_elsewhere_take_no_hook() -> None:
    with pytest.raises(ValidationError, match="takes no hook"):
        ExecutorSpec.model_validate({"type": "Pull", "pull": {"command": {"argv": ["claude"], "hook": "Claude"}}})


def test_taking_the_hook_away_is_a_widening() -> None:
    spec = {"type": "Command", "command": {"argv": ["claude"], "hook": "Claude"}}
    without = {"type": "Command", "command": {"argv": ["claude"]}}
    assert [str(w) for w in widenings("Executor", spec, without)] == ["command.hook: Claude -> none"]
    assert list(widenings("Executor", without, spec)) == []
