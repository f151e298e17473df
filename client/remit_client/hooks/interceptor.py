"""The interceptor of Docker's MCP gateway: ``--interceptor before:http:URL`` posts each call of a tool.

Facts of its source (``pkg/interceptors``): the status of the answer is not looked at; an empty body lets the call go
on, any other is read as the call's result. A connection that fails, and an answer that is not JSON, fail the call. The
request has no Content-Type; its fields are Session, Params and Extra, or their lower-case forms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remit_client.hooks.calls import ToolCall


def read_call(payload: Mapping[str, Any], server: str) -> ToolCall:
    """The call. ``server`` is what its tools are named after, as in ``mcp:SERVER/TOOL``. Raises ValueError."""
    params = [value for key, value in payload.items() if key.lower() == "params"]
    if len(params) != 1 or not isinstance(params[0], Mapping):
        raise ValueError("params of the call are missing")
    name, args = params[0].get("name"), params[0].get("arguments")
    if not isinstance(name, str) or not name:
        raise ValueError("params.name is missing")
    if args is not None and not isinstance(args, Mapping):
        raise ValueError("the arguments of the call are no JSON object")
    return ToolCall(f"mcp:{server}/{name}", dict(args or {}))


def refused(message: str) -> dict[str, Any]:
    """The result that the agent reads in place of the tool's."""
    return {"content": [{"type": "text", "text": message}], "isError": True}
