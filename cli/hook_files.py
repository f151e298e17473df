"""The files in which coding agents keep their hooks: what of them is ours, how it is put in and taken out again.

Everything else in such a file stays as it is, but for the layout of JSON.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cli.failures import Failure

SPARE_S = 60
"""How much longer the agent waits for the hook than the hook waits for a person."""


@dataclass(frozen=True, slots=True)
class Hooked:
    """An agent's file. ``path`` counts from the project's or the user's folder; ``change`` gives the new text from the
    old one ("" for no file), the command of the hook (None takes it out) and how long the hook waits, in seconds."""

    path: str
    change: Callable[[str, str | None, int], str]
    notes: tuple[str, ...] = ()


def _nested(event: str, *, milliseconds: bool = False, **more: Any) -> Callable[[str, str | None, int], str]:
    """``{hooks: {EVENT: [{matcher, hooks: [{type: command, command, timeout}]}]}}``."""

    def change(text: str, command: str | None, wait_s: int) -> str:
        document = _parsed(text)
        groups = [_without(group) for group in _list(document, "hooks", event)]
        groups = [group for group in groups if not isinstance(group, dict) or group.get("hooks") != []]
        if command is not None:
            limit = (wait_s + SPARE_S) * (1000 if milliseconds else 1)
            hook = {"type": "command", "command": command, "timeout": limit, **more}
            groups.append({"matcher": ".*" if milliseconds else "*", "hooks": [hook]})
        return _written(document, text, event, groups)

    return change


def _without(group: Any) -> Any:
    if not isinstance(group, dict) or not isinstance(group.get("hooks"), list):
        return group
    kept = [hook for hook in group["hooks"] if not _ours(hook)]
    return group if len(kept) == len(group["hooks"]) else {**group, "hooks": kept}


def _cursor(text: str, command: str | None, wait_s: int) -> str:
    document = _parsed(text)
    hooks = [hook for hook in _list(document, "hooks", "preToolUse") if not _ours(hook)]
    if command is not None:
        document.setdefault("version", 1)
        hooks.append({"command": command, "timeout": wait_s + SPARE_S, "failClosed": True})
    return _written(document, text, "preToolUse", hooks)


def _opencode(_: str, command: str | None, wait_s: int) -> str:
    if command is None:
        return ""
    words = json.dumps(shlex.split(command))
    return _PLUGIN.replace("COMMAND", words).replace("LIMIT", str((wait_s + SPARE_S) * 1000))


_PLUGIN = """\
// Puts every tool call before Remit's gate. Written by `remit hook install opencode`.
import { spawn } from "node:child_process"

const command = COMMAND
const limit = LIMIT

function ask(event) {
  return new Promise((resolve, reject) => {
    const child = spawn(command[0], command.slice(1), { stdio: ["pipe", "pipe", "pipe"], timeout: limit })
    let out = ""
    let err = ""
    child.stdout.on("data", (data) => (out += data))
    child.stderr.on("data", (data) => (err += data))
    child.on("error", reject)
    child.stdin.on("error", () => {})
    child.on("close", (code) => {
      if (code !== 0) return reject(new Error(err.trim() || "Remit blocks this call: the hook ended early"))
      try {
        resolve(JSON.parse(out))
      } catch {
        reject(new Error("Remit blocks this call: the hook gave no answer"))
      }
    })
    child.stdin.end(JSON.stringify(event))
  })
}

export const Remit = async ({ directory }) => ({
  "tool.execute.before": async (input, output) => {
    const event = { tool: input.tool, sessionID: input.sessionID, callID: input.callID, args: output.args }
    const answer = await ask({ ...event, cwd: directory })
    if (!answer || answer.decision !== "allow") throw new Error((answer && answer.reason) || "Remit denies this call")
  },
})
"""

FILES = {
    "claude": Hooked(".claude/settings.json", _nested("PreToolUse", onFailure="block")),
    "codex": Hooked(
        ".codex/hooks.json",
        _nested("PreToolUse"),
        (
            "codex skips a hook that nobody reviewed: review it in codex, or start codex exec with"
            " --dangerously-bypass-hook-trust",
            "codex runs the call when a hook dies or takes too long",
        ),
    ),
    "gemini": Hooked(
        ".gemini/settings.json",
        _nested("BeforeTool", milliseconds=True),
        ("gemini runs the call when a hook dies or takes too long",),
    ),
    "opencode": Hooked(".opencode/plugin/remit.js", _opencode),
    "cursor": Hooked(".cursor/hooks.json", _cursor),
}


def _ours(hook: Any) -> bool:
    """Whether a hook is one that ``install`` wrote, of whatever place of the program."""
    command = hook.get("command") if isinstance(hook, dict) else None
    if not isinstance(command, str):
        return False
    try:
        words = shlex.split(command)
    except ValueError:
        return False
    return any(
        words[i].rpartition("/")[2] == "remit" and words[i + 1 : i + 2] == ["hook"] for i in range(len(words))
    ) or words[1:3] == ["-m", "remit_client.hooks"]


def _parsed(text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        document = json.loads(text)
    except ValueError as error:
        raise Failure(f"not plain JSON: {error}", "take its comments out, or add the hook by hand") from None
    if not isinstance(document, dict):
        raise Failure("the file is not a JSON object")
    return document


def _list(document: dict[str, Any], *path: str) -> list[Any]:
    place: Any = document
    for name in path:
        place = place.get(name, {}) if isinstance(place, dict) else None
    if place in ({}, None):
        return []
    if not isinstance(place, list):
        raise Failure(f"{'.'.join(path)} of the file is not a list")
    return list(place)


def _written(document: dict[str, Any], text: str, event: str, hooks: list[Any]) -> str:
    """The document with the hooks of an event, in the indentation that it had. What becomes empty by it goes."""
    old = document.get("hooks")
    events = dict(old) if isinstance(old, dict) else {}
    events[event] = hooks
    if not hooks:
        del events[event]
    document = {**document, "hooks": events}
    if not events:
        del document["hooks"]
    if not document or document == {"version": 1}:
        return ""
    line = next((row for row in text.splitlines()[1:] if row.strip()), "  ")
    indent = line[: len(line) - len(line.lstrip())] or "  "
    return json.dumps(document, indent=indent, ensure_ascii=False) + "\n"
