"""What coding agents say of a call that has ended: what came of it, and how long it took.

Nothing is held up by it any more, so whatever is missing or odd is left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from remit_client.hooks.calls import ToolCall, Workspace, named

Payload = Mapping[str, Any]
MAX_ERROR = 2000
_MAX_MS = 10**10


@dataclass(frozen=True, slots=True)
class ToolEnd:
    """A call that has ended. ``call.key`` is the one that it was asked for with, "" where the agent has none."""

    call: ToolCall
    ok: bool
    error: str = ""
    duration_ms: int | None = None
    output: Any = None

    def to_wire(self) -> dict[str, Any]:
        """As the engine takes it."""
        wire: dict[str, Any] = {"tool": self.call.tool, "ok": self.ok, "argsDigest": digest(self.call.args)}
        if self.call.key:
            wire["callKey"] = self.call.key
        if self.error:
            wire["error"] = self.error.replace("\0", "\ufffd").encode("utf-8", "replace").decode()[:MAX_ERROR]
        if self.duration_ms is not None:
            wire["durationMs"] = self.duration_ms
        if self.output is not None:
            wire["outputDigest"] = digest(self.output)
        return wire


def digest(value: Any) -> str:
    """``sha256:<hex>`` of the canonical JSON of ``value``, as the engine computes it. Raises ValueError."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def claude(payload: Payload, workspace: Workspace) -> ToolEnd | None:
    """PostToolUse and PostToolUseFailure; Codex has the first, under the same names."""
    event = payload.get("hook_event_name")
    if event not in ("PostToolUse", "PostToolUseFailure"):
        return None
    key = str(payload.get("tool_use_id") or "")
    call = named(str(payload["tool_name"]), payload.get("tool_input"), workspace, key=key)
    ok = event == "PostToolUse"
    return ToolEnd(call, ok, "" if ok else _text(payload.get("error")), _ms(payload), payload.get("tool_response"))


def gemini(payload: Payload, workspace: Workspace) -> ToolEnd | None:
    """AfterTool. It names no call: the engine finds it by tool and arguments."""
    if payload.get("hook_event_name") != "AfterTool":
        return None
    context = payload.get("mcp_context")
    mcp = context if isinstance(context, Mapping) else None
    server = str(mcp.get("server_name") or "unknown") if mcp is not None else ""
    name = str((mcp or {}).get("tool_name") or payload["tool_name"])
    answer = payload.get("tool_response")
    error = answer.get("error") if isinstance(answer, Mapping) else None
    call = named(name, payload.get("tool_input"), workspace, server=server)
    return ToolEnd(call, not error, _text(error), _ms(payload), answer)


def opencode(payload: Payload, workspace: Workspace) -> ToolEnd | None:
    """``tool.execute.after``, as the plugin passes it on. A tool that throws never gets there."""
    if payload.get("event") != "after":
        return None
    call = named(str(payload["tool"]), payload.get("args"), workspace, key=str(payload.get("callID") or ""))
    return ToolEnd(call, True, "", _ms(payload), payload.get("output"))


def cursor(payload: Payload, workspace: Workspace) -> ToolEnd | None:
    """postToolUse and postToolUseFailure. A call that was not let run has not ended: it never began."""
    event = payload.get("hook_event_name")
    if event not in ("postToolUse", "postToolUseFailure") or payload.get("failure_type") == "permission_denied":
        return None
    name, args = str(payload["tool_name"]), payload.get("tool_input")
    server = "unknown" if name.startswith("MCP:") else ""
    call = named(
        name.removeprefix("MCP:"), json.loads(args) if isinstance(args, str) and args else args, workspace,
        server=server, key=str(payload.get("tool_use_id") or ""),
    )  # fmt: skip
    ok = event == "postToolUse"
    return ToolEnd(
        call, ok, "" if ok else _text(payload.get("error_message")), _ms(payload), payload.get("tool_output")
    )


def openclaw(payload: Payload, workspace: Workspace) -> ToolEnd | None:
    """``after_tool_call``, as the plugin passes it on."""
    if payload.get("hook") != "after_tool_call":
        return None
    key = str(payload.get("toolCallId") or "")
    error = payload.get("error")
    call = named(str(payload["toolName"]), payload.get("params"), workspace, key=key)
    return ToolEnd(call, not error, _text(error), _ms(payload), payload.get("result"))


Ended = Callable[[Payload, Workspace], ToolEnd | None]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)[:MAX_ERROR]


def _ms(payload: Payload) -> int | None:
    for name in ("duration_ms", "durationMs", "duration"):
        value = payload.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MAX_MS:
            return int(value)
    return None
