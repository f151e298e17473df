"""The read API over a world, asked without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from fastapi import FastAPI

from api.read.app import create_read_app
from api.read.engine import EngineFacts
from api.server import HttpServer
from cli.feeds import StoreFeeds
from controllers.runs.costs import gather
from controllers.runtime.blocking import InlineBlocking
from controllers.runtime.clock import Clock, SystemClock
from controllers.runtime.lifecycle import Lifecycle
from store.contract import Store

LONG_S = 60.0


class StoreClock(SystemClock):
    """The time of the world, the delays of the machine."""

    def __init__(self, now: Any) -> None:
        self._now = now

    def now(self) -> Any:
        return self._now()


def facts(**more: Any) -> EngineFacts:
    """What an engine would say."""
    return EngineFacts(
        used=lambda snapshot, namespace, since: gather(snapshot, namespace=namespace, since=since),
        feeds=StoreFeeds(),
        project="test",
        **more,
    )


def read_app(store: Store, clock: Clock, **options: Any) -> FastAPI:
    """The application."""
    options.setdefault("engine", facts())
    return create_read_app(store, clock=clock, blocking=InlineBlocking(), version="0.0.0", **options)


@asynccontextmanager
async def asking(app: FastAPI, **headers: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of it."""
    transport = httpx2.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8420", headers=headers) as client,
    ):
        yield client


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[HttpServer]:
    """It on a port of its own."""
    server, life = HttpServer(app, "127.0.0.1", 0, on_stop=app.state.close), Lifecycle()
    server.bind()
    task = asyncio.create_task(server.run(life))
    await asyncio.wait_for(life.is_ready.wait(), LONG_S)
    try:
        yield server
    finally:
        life.stopping.set()
        await asyncio.wait_for(task, LONG_S)
