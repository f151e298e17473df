"""An application that is made after the start: what it needs is loaded when there is time, or somebody asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, TypeAlias

from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock, wait_for_any

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Receive, Scope, Send

    from api.lane import Answer, Lane

    Made: TypeAlias = FastAPI
QUIET_S = 5.0
"""A start that goes on with work is left alone for this long, unless somebody asks."""


class LateApp:
    """``make()`` once somebody asks, at the latest after QUIET_S. ``load()`` comes before it in a thread of
    ``blocking``, and imports what that needs. The lifespan of what was made is that of the rest of this one.

    When either raises, every request fails with it.
    """

    def __init__(
        self, make: Callable[[], Made], *, load: Callable[[], object], clock: Clock, blocking: Blocking
    ) -> None:
        self._make = make
        self._load = load
        self._clock = clock
        self._blocking = blocking
        self._asked = asyncio.Event()
        self._made: asyncio.Future[Made] | None = None

    def close(self) -> None:
        """What the application does when its server is to stop (``app.state.close``)."""
        made = self.made
        if made is not None:
            made.state.close()

    @property
    def made(self) -> Made | None:
        """The application, once it is there."""
        made = self._made
        if made is None or not made.done() or made.cancelled() or made.exception() is not None:
            return None
        return made.result()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        self._asked.set()
        assert self._made is not None, "a server begins with the lifespan"
        app = await asyncio.shield(self._made)
        await app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        self._made = asyncio.get_running_loop().create_future()
        await receive()
        await send({"type": "lifespan.startup.complete"})
        ends = asyncio.Event()
        ending = asyncio.create_task(_told(receive, ends))
        try:
            async with AsyncExitStack() as stack:
                await wait_for_any(self._clock, QUIET_S, self._asked, ends)
                if not ends.is_set():
                    await self._begin(self._made, stack)
                    await ends.wait()
            await send({"type": "lifespan.shutdown.complete"})
        finally:
            ending.cancel()
            self._made.cancel()

    async def _begin(self, made: asyncio.Future[Made], stack: AsyncExitStack) -> None:
        try:
            await self._blocking.run(self._load)
            app = self._make()
            await stack.enter_async_context(app.router.lifespan_context(app))
        except Exception as error:
            made.set_exception(error)
            made.exception()  # seen, also where nobody waits for it
            raise
        made.set_result(app)


class LateLane:
    """The lane (``app.state.lane``) of an application that is made late: until it is there, all goes the ordinary
    way, which has it made. ``path`` is that of its requests."""

    def __init__(self, app: LateApp, path: str) -> None:
        self.line = f"POST {path} HTTP/1.1".encode("ascii")
        self._app = app

    def take(
        self, headers: Mapping[bytes, bytes], body: bytes, answer: Callable[[Answer], None]
    ) -> Callable[[], None] | None:
        """See ``Lane.take``."""
        made = self._app.made
        if made is None:
            return None
        lane: Lane = made.state.lane
        return lane.take(headers, body, answer)


async def _told(receive: Receive, ends: asyncio.Event) -> None:
    await receive()
    ends.set()
