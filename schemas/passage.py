"""Where a tool call was put before the gate."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.base import StatusModel


class CallChannel(StrEnum):
    """The place that asked."""

    CLIENT = "client"  # the agent's own program
    HOOK = "hook"  # a command hook of a coding agent
    HTTP_HOOK = "http-hook"  # an HTTP hook of a coding agent
    PLUGIN = "plugin"  # a plugin of an agent gateway
    MCP_PROXY = "mcp-proxy"  # a proxy before MCP servers
    INTERCEPTOR = "interceptor"  # an interceptor of an MCP gateway


class Passage(StatusModel):
    """A place at which calls of a run were put before the gate."""

    channel: CallChannel = Field(CallChannel.CLIENT, description="What it is.")
    placed: bool = Field(
        False, description="Whether the engine put it there: it proved itself with a token of its own."
    )
