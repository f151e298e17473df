"""How many requests are answered at a time."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import Problem


class LoadLimit:
    """Middleware: more than ``most`` requests at a time are answered 503, so that a flood cannot fill the memory."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._inside >= self._most:
            problem = Problem(503, "Overloaded", "too many requests are being answered; try again", retry_after_s=1)
            await problem.response()(scope, receive, send)
            return
        self._inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1
