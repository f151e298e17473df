"""An application that is made when somebody asks, or a while after the start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI

from api.late import QUIET_S, LateApp, LateLane
from controllers.runtime.blocking import InlineBlocking
from tests.fakes.clock import VirtualClock

pytestmark = pytest.mark.asyncio


class Served:
    """A LateApp, asked as a server asks it."""

    def __init__(self, *, fails: bool = False) -> None:
        self.clock = VirtualClock()
        self.said: list[str] = []
        self._fails = fails
        self.app = LateApp(
            self.make, load=lambda: self.said.append("load"), clock=self.clock, blocking=InlineBlocking()
        )
        self._ends = asyncio.Event()
        self._began = False
        self.life = asyncio.create_task(self.app({"type": "lifespan"}, self._told, self._heard))

    def make(self) -> FastAPI:
        self.said.append("make")
        if self._fails:
            raise ValueError("no pages")

        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            self.said.append("begin")
            yield
            self.said.append("end")

        app = FastAPI(lifespan=lifespan)
        app.state.close = lambda: self.said.append("close")

        @app.get("/")
        async def root() -> str:
            return "a page"

        return app

    async def _told(self) -> dict[str, Any]:
        if self._began:
            await self._ends.wait()
            return {"type": "lifespan.shutdown"}
        self._began = True
        return {"type": "lifespan.startup"}

    async def _heard(self, message: dict[str, Any]) -> None:
        self.said.append(message["type"].removeprefix("lifespan."))

    async def get(self) -> bytes:
        """The body of a page."""
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "root_path": ""}
        body = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request"}

        async def send(message: dict[str, Any]) -> None:
            body.append(message.get("body", b""))

        await self.app(scope, receive, send)
        return b"".join(body)

    async def stop(self) -> None:
        """As a server stops."""
        self.app.close()
        self._ends.set()
        await self.clock.run(self.life)


async def test_the_first_request_makes_it_and_the_next_ones_find_it_there() -> None:
    served = Served()
    await served.clock.settle()
    assert served.said == ["startup.complete"]
    assert await asyncio.gather(served.get(), served.get()) == [b'"a page"'] * 2
    assert served.clock.elapsed == 0
    await served.stop()
    assert served.said == ["startup.complete", "load", "make", "begin", "close", "end", "shutdown.complete"]


async def test_it_is_made_a_while_after_the_start_though_nobody_asks() -> None:
    served = Served()
    await served.clock.advance(QUIET_S - 1)
    assert "make" not in served.said
    await served.clock.advance(1)
    assert served.said[-1] == "begin"
    await served.stop()


async def test_a_server_that_stops_before_makes_nothing() -> None:
    served = Served()
    await served.clock.settle()
    await served.stop()
    assert served.said == ["startup.complete", "shutdown.complete"]


async def test_every_request_says_why_it_could_not_be_made() -> None:
    served = Served(fails=True)
    await served.clock.settle()
    for _ in range(2):
        with pytest.raises(ValueError, match="no pages"):
            await served.get()
    with pytest.raises(ValueError, match="no pages"):
        await served.stop()


async def test_its_lane_takes_nothing_before_it_is_made_and_passes_on_what_comes_then() -> None:
    served = Served()
    lane = LateLane(served.app, "/ask")
    await served.clock.settle()
    assert lane.line == b"POST /ask HTTP/1.1"
    assert lane.take({}, b"", lambda _: None) is None
    await served.get()
    made = served.app.made
    assert made is not None
    gone = lambda: None  # noqa: E731
    made.state.lane = SimpleNamespace(take=lambda headers, body, answer: gone if body == b"a question" else None)
    assert lane.take({}, b"a question", lambda _: None) is gone
    await served.stop()
