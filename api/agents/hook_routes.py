"""The addresses of hooks that ask over HTTP. What their queries say is read where it is answered: a wrong one is a
denial, not an error that an agent takes for leave."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response

from api.agents.hooks import MOST_HOLD_S, HookEndpoints


def _described(**queries: str) -> dict[str, Any]:
    wait = f"Longest wait for a person's answer, 0 to {MOST_HOLD_S} seconds; then it is a no."
    parameters = [
        {"name": name, "in": "query", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in {"wait": wait, **queries}.items()
    ]
    body = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
    # Without a good token the answer is a denial, and still 200.
    return {"parameters": parameters, "requestBody": body, "security": [{"runToken": []}, {}]}


def add_hook_routes(app: FastAPI, hooks: HookEndpoints) -> None:
    """Add them. Each answers 200 whatever happens, in the words of who asks."""

    @app.post(
        "/agent/v1/hooks/claude", summary="Answer an HTTP hook of Claude Code", operation_id="hook-claude",
        response_class=Response,
        openapi_extra=_described(
            defer="true: pause the agent until a person has answered.",
            keepPrompts="true: where Remit allows, let the agent's own rules speak too.",
        ),
    )  # fmt: skip
    async def claude(request: Request) -> Response:
        """PreToolUse is answered with a permission; PostToolUse and PostToolUseFailure report what came of a call."""
        return await hooks.claude(request)

    @app.post(
        "/agent/v1/hooks/openclaw", summary="Answer the plugin of OpenClaw", operation_id="hook-openclaw",
        response_class=Response, openapi_extra=_described(),
    )  # fmt: skip
    async def openclaw(request: Request) -> Response:
        """``{"decision": "allow"}`` is leave, and nothing else is."""
        return await hooks.openclaw(request)

    server = {
        "name": "server", "in": "path", "required": True, "description": "As in mcp:SERVER/TOOL.",
        "schema": {"type": "string"},
    }  # fmt: skip
    described = _described()

    @app.post(
        "/agent/v1/interceptors/docker/{server}", summary="Answer an interceptor of Docker's MCP gateway",
        operation_id="interceptor-docker", response_class=Response,
        openapi_extra={**described, "parameters": [server, *described["parameters"]]},
    )  # fmt: skip
    async def docker(request: Request) -> Response:
        """An empty answer is leave; any other is a result that takes the place of the tool's."""
        return await hooks.docker(request)
