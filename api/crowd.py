"""How many requests are answered at a time."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import Problem


class Crowd:
    """Counts the requests that are being answered; at most ``most``. Belongs to one thread."""

    __slots__ = ("inside", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self.inside = 0

    @property
    def full(self) -> bool:
        """Whether nobody else is let in."""
        return self.inside >= self.most


class LoadLimit:
    """Middleware: more than ``most`` requests at a time are answered 503, so that a flood cannot fill the memory."""

    def __init__(self, app: ASGIApp, most: int, crowd: Crowd | None = None) -> None:
        """``crowd`` is who else counts."""
        self._app = app
        self._crowd = crowd or Crowd(most)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._crowd.full:
            problem = Problem(503, "Overloaded", "too many requests are being answered; try again", retry_after_s=1)
            await problem.response()(scope, receive, send)
            return
        self._crowd.inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._crowd.inside -= 1
