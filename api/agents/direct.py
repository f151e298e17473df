"""An endpoint that is asked with every tool call of every agent: past the router and its dependencies, behind the same
guards, with the same answers to errors. It stands in the router, too, which is what the document is made from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.agents.runs import to_problem
from api.problems import Problem
from schemas.errors import RemitError


class Direct:
    """Middleware that answers ``POST path`` by ``endpoint``; what that raises becomes the answer that the application
    would give. The last middleware before the application."""

    def __init__(self, app: ASGIApp, path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> None:
        self._app = app
        self._path = path
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            response = await self._endpoint(Request(scope, receive))
        except Problem as problem:
            response = problem.response()
        except RemitError as error:
            response = to_problem(error).response()
        await response(scope, receive, send)
