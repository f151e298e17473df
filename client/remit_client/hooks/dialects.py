"""How each coding agent asks, and which answer it takes for what. Facts of their documentation and sources; the tests
hold inputs of every one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from remit_client.hooks import endings
from remit_client.hooks.calls import ToolCall, Workspace, named
from remit_client.hooks.endings import Ended

BLOCKED = 2
"""The exit code that every agent takes for "no", provided that standard error says something."""


class Word(Enum):
    """What is answered."""

    ALLOW = "allow"
    DENY = "deny"
    LATER = "later"  # a person is asked; the agent stops here and comes back


@dataclass(frozen=True, slots=True)
class Answer:
    """The engine's answer. ``decision`` is allow, deny or ask; ask means that nobody has decided yet."""

    decision: str
    reason: str
    rule: str
    request: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The engine's word, and what the agent is told."""

    word: Word
    message: str

    @classmethod
    def of(cls, answer: Answer, *, later: bool = False) -> Verdict:
        """``later``: the agent can stop for an answer that takes days."""
        because = f"{answer.reason} [{answer.rule}]" if answer.rule else answer.reason
        if answer.decision == "allow":
            return cls(Word.ALLOW, f"Remit: {because or 'allowed'}")
        if answer.decision == "deny":
            return cls(Word.DENY, f"Remit: {because or 'denied'}")
        waits = f"Remit: a person has to approve this ({answer.request or 'see remit get approvals'}): {because}"
        if later:
            return cls(Word.LATER, waits)
        return cls(Word.DENY, f"{waits}. Not approved yet: go on with something else, and try the same call later.")


@dataclass(frozen=True, slots=True)
class Said:
    """What the hook prints, and its exit code."""

    out: str = ""
    err: str = ""
    code: int = 0


Payload = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Dialect:
    """One agent. ``read`` gives the call, or None for an event that is not about leave; it raises ValueError for what
    it does not understand. ``folder`` names the variable that holds the agent's workspace, "" where there is none."""

    name: str
    read: Callable[[Payload, Workspace], ToolCall | None]
    say: Callable[[Verdict, Payload], Said]
    ended: Ended
    """What a call that has ended came to; None for every other event. Raises whatever odd input makes it raise."""
    wait_s: float
    """How long it may be kept waiting: less than the limit that the agent itself sets to a hook."""
    folder: str = ""
    later: bool = False
    """Whether it can stop for an answer that takes days, and be asked again when it goes on."""

    def workspace(self, payload: Payload, environ: Mapping[str, str], here: str) -> Workspace:
        """Where the agent works, by what Remit or the agent set for this hook, else by where the hook was started."""
        base = environ.get("REMIT_WORKSPACE") or (environ.get(self.folder) if self.folder else "") or here
        cwd = payload.get("cwd")
        return Workspace(base, cwd if isinstance(cwd, str) and cwd.startswith("/") else here)


def _event(payload: Payload, asked: str, others: tuple[str, ...]) -> bool:
    event = payload.get("hook_event_name")
    if event == asked:
        return True
    if event in others:
        return False
    raise ValueError(f"hook_event_name is {str(event)[:40]!r}, and {asked} is expected")


def _name(payload: Payload, field: str = "tool_name") -> str:
    name = payload.get(field)
    if not isinstance(name, str) or not name:
        raise ValueError(f"{field} is missing")
    return name


_CLAUDE_OTHERS = (
    "PostToolUse", "PostToolUseFailure", "UserPromptSubmit", "Notification", "Stop", "SubagentStart", "SubagentStop",
    "SessionStart", "SessionEnd", "PreCompact", "PostCompact",
)  # fmt: skip


def _read_claude(payload: Payload, workspace: Workspace) -> ToolCall | None:
    if not _event(payload, "PreToolUse", _CLAUDE_OTHERS):
        return None
    return named(_name(payload), payload.get("tool_input"), workspace, key=str(payload.get("tool_use_id") or ""))


def _decision(word: str, message: str) -> str:
    said = {"hookEventName": "PreToolUse", "permissionDecision": word, "permissionDecisionReason": message}
    return json.dumps({"hookSpecificOutput": said})


def _say_claude(verdict: Verdict, _: Payload) -> Said:
    word = {Word.ALLOW: "allow", Word.DENY: "deny", Word.LATER: "defer"}[verdict.word]
    return Said(_decision(word, verdict.message))


def _say_codex(verdict: Verdict, _: Payload) -> Said:
    """Silence is leave; ``allow`` and ``ask`` are words that it does not know, and then the call runs."""
    if verdict.word is Word.ALLOW:
        return Said()
    return Said(_decision("deny", verdict.message))


def _read_gemini(payload: Payload, workspace: Workspace) -> ToolCall | None:
    others = ("AfterTool", "BeforeAgent", "AfterAgent", "BeforeModel", "AfterModel", "BeforeToolSelection",
              "SessionStart", "SessionEnd", "PreCompress", "Notification")  # fmt: skip
    if not _event(payload, "BeforeTool", others):
        return None
    context = payload.get("mcp_context")
    server = str(context.get("server_name") or "unknown") if isinstance(context, Mapping) else ""
    name = str(context.get("tool_name") or _name(payload)) if isinstance(context, Mapping) else _name(payload)
    return named(name, payload.get("tool_input"), workspace, server=server)


def _say_gemini(verdict: Verdict, _: Payload) -> Said:
    """``ask`` waits for ever where nobody sits before it, so it is never said."""
    if verdict.word is Word.ALLOW:
        return Said(json.dumps({"decision": "allow"}))
    return Said(json.dumps({"decision": "deny", "reason": verdict.message}))


def _read_opencode(payload: Payload, workspace: Workspace) -> ToolCall | None:
    return named(_name(payload, "tool"), payload.get("args"), workspace, key=str(payload.get("callID") or ""))


def _say_opencode(verdict: Verdict, _: Payload) -> Said:
    """Read by the plugin that comes with it, which throws unless it reads ``allow``."""
    word = "allow" if verdict.word is Word.ALLOW else "deny"
    return Said(json.dumps({"decision": word, "reason": verdict.message}))


def _read_openclaw(payload: Payload, workspace: Workspace) -> ToolCall | None:
    if payload.get("hook") != "before_tool_call":
        raise ValueError("hook is not before_tool_call")
    key = str(payload.get("toolCallId") or "")
    return named(_name(payload, "toolName"), payload.get("params"), workspace, key=key)


def _read_cursor(payload: Payload, workspace: Workspace) -> ToolCall | None:
    event = payload.get("hook_event_name")
    key = str(payload.get("tool_use_id") or "")
    if event == "beforeShellExecution":
        return named("Shell", {"command": payload.get("command")}, workspace, key=key)
    if event == "beforeReadFile":
        return named("Read", {"file_path": payload.get("file_path")}, workspace, key=key)
    if event == "beforeMCPExecution":
        server = str(payload.get("mcp_server_name") or payload.get("server") or "unknown")
        return named(_name(payload), _object(payload.get("tool_input")), workspace, server=server, key=key)
    if event == "preToolUse":
        name = _name(payload)
        server = "unknown" if name.startswith("MCP:") else ""
        return named(name.removeprefix("MCP:"), _object(payload.get("tool_input")), workspace, server=server, key=key)
    others = ("afterShellExecution", "afterMCPExecution", "afterFileEdit", "postToolUse", "postToolUseFailure",
              "beforeSubmitPrompt", "sessionStart", "sessionEnd", "stop", "subagentStop", "afterAgentResponse",
              "afterAgentThought", "preCompact")  # fmt: skip
    _event(payload, "preToolUse", others)
    return None


def _object(value: Any) -> Any:
    """Some versions hand the arguments over as JSON in a text."""
    return json.loads(value) if isinstance(value, str) and value else value


def _say_cursor(verdict: Verdict, _: Payload) -> Said:
    if verdict.word is Word.ALLOW:
        return Said(json.dumps({"permission": "allow"}))
    told = {"permission": "deny", "agent_message": verdict.message, "user_message": verdict.message}
    return Said(json.dumps(told))


DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect(
            "claude", _read_claude, _say_claude, endings.claude, wait_s=540, folder="CLAUDE_PROJECT_DIR", later=True
        ),
        Dialect("codex", _read_claude, _say_codex, endings.claude, wait_s=540),
        Dialect("gemini", _read_gemini, _say_gemini, endings.gemini, wait_s=50, folder="GEMINI_PROJECT_DIR"),
        Dialect("opencode", _read_opencode, _say_opencode, endings.opencode, wait_s=540),
        Dialect("cursor", _read_cursor, _say_cursor, endings.cursor, wait_s=540, folder="CURSOR_PROJECT_DIR"),
    )
}
"""The agents that start a program before each call."""

OPENCLAW = Dialect("openclaw", _read_openclaw, _say_opencode, endings.openclaw, wait_s=540)
"""The plugin asks over HTTP, and blocks unless it reads ``allow``."""
