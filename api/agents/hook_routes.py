"""The addresses of hooks that ask over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Path, Query, Request, Response

from api.agents.hooks import MOST_HOLD_S, HookEndpoints, Options

Wait = Annotated[
    int, Query(ge=0, le=MOST_HOLD_S, description="Longest wait for a person's answer, in seconds; then it is a no.")
]
_EVENT = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}


def add_hook_routes(app: FastAPI, hooks: HookEndpoints) -> None:
    """Add them. Each answers 200 whatever happens, in the words of who asks."""

    @app.post(
        "/agent/v1/hooks/claude", summary="Answer an HTTP hook of Claude Code", operation_id="hook-claude",
        response_class=Response, openapi_extra=_EVENT,
    )  # fmt: skip
    async def claude(
        request: Request,
        wait: Wait = 540,
        defer: Annotated[bool, Query(description="Pause the agent until a person has answered.")] = False,
        keep_prompts: Annotated[
            bool, Query(alias="keepPrompts", description="Where Remit allows, let the agent's own rules speak too.")
        ] = False,
    ) -> Response:
        """PreToolUse is answered with a permission; PostToolUse and PostToolUseFailure report what came of a call."""
        return await hooks.claude(request, Options(wait, defer, keep_prompts))

    @app.post(
        "/agent/v1/hooks/openclaw", summary="Answer the plugin of OpenClaw", operation_id="hook-openclaw",
        response_class=Response, openapi_extra=_EVENT,
    )  # fmt: skip
    async def openclaw(request: Request, wait: Wait = 540) -> Response:
        """``{"decision": "allow"}`` is leave, and nothing else is."""
        return await hooks.openclaw(request, Options(wait))

    @app.post(
        "/agent/v1/interceptors/docker/{server}", summary="Answer an interceptor of Docker's MCP gateway",
        operation_id="interceptor-docker", response_class=Response, openapi_extra=_EVENT,
    )  # fmt: skip
    async def docker(
        request: Request,
        server: Annotated[
            str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", description="As in mcp:SERVER/TOOL.")
        ],
        wait: Wait = 50,
    ) -> Response:
        """An empty answer is leave; any other is a result that takes the place of the tool's."""
        return await hooks.docker(request, server, Options(wait))
