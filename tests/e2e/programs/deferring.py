"""Plays Claude Code: asks its hook before its one tool call; told to defer, it stops and keeps its session in HOME;
started again with --resume, it asks again and goes on. Each start and each act leaves a line."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

HOME = Path(os.environ["HOME"])
SESSION = "0f1e2d3c-session"


def line(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


def result(**more: Any) -> None:
    usage = {"input_tokens": 10, "output_tokens": 5}
    value = {"type": "result", "subtype": "success", "is_error": False, "session_id": SESSION, "usage": usage}
    sys.stdout.write(json.dumps({**value, "total_cost_usd": 0.01, **more}) + "\n")


kept = HOME / ".claude" / "projects" / f"{SESSION}.json"
if "--resume" in sys.argv:
    assert sys.argv[sys.argv.index("--resume") + 1] == SESSION, sys.argv
    assert sys.stdin.read() == "", "what to do was said in the session"
    memory = json.loads(kept.read_text())
    assert memory["cwd"] == os.getcwd(), "the session goes on where it began"
    assert Path("notes.txt").read_text() == "begun"
else:
    memory = {"mission": json.load(sys.stdin), "cwd": os.getcwd()}
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps(memory))
    Path("notes.txt").write_text("begun")
given = memory["mission"]
effects = Path(given["input"]["effects"])
line(effects / f"{given['uid']}.starts", "resume" if "--resume" in sys.argv else "begin")
hook = json.loads((HOME / ".claude" / "settings.json").read_text())["hooks"]["PreToolUse"][0]["hooks"][0]["command"]
call = {
    "session_id": SESSION, "cwd": os.getcwd(), "hook_event_name": "PreToolUse", "tool_name": "Bash",
    "tool_input": {"command": "git push"}, "tool_use_id": "toolu_1",
}  # fmt: skip
asked = subprocess.run(shlex.split(hook), input=json.dumps(call).encode(), capture_output=True, check=True)
verdict = json.loads(asked.stdout)["hookSpecificOutput"]["permissionDecision"]
if verdict == "defer":
    deferred = {"id": "toolu_1", "name": "Bash", "input": call["tool_input"]}
    result(stop_reason="tool_deferred", terminal_reason="tool_deferred", deferred_tool_use=deferred, result="")
elif verdict == "allow":
    line(effects / f"{given['uid']}.act", "pushed")
    result(result="Pushed.")
else:
    result(result="It was refused.", permission_denials=[{"tool_name": "Bash"}])
