"""The agent port as the engine runs it: a real server on a free port of 127.0.0.1, over a real store."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
from fastapi import FastAPI

from api.agents.app import create_app
from api.agents.limits import AgentLimits
from api.server import HttpServer
from controllers.runs.tokens import RunTokens
from controllers.runtime.blocking import ThreadBlocking
from controllers.runtime.clock import SystemClock
from controllers.runtime.lifecycle import Lifecycle
from schemas.resource import Resource
from tests.fakes.runs import RunBench

TOKENS = RunTokens(b"k" * 32)
LONG_S = 60.0
"""Longest wait for what takes a moment on an idle machine."""
WAKES_S = 40.0
"""A long poll of 50 s that is woken has its answer by then; one that is not ends later."""


@dataclass
class AgentPort:
    """A server that answers, and what an agent needs to speak to it."""

    bench: RunBench
    app: FastAPI
    server: HttpServer
    client: httpx2.AsyncClient
    life: Lifecycle
    task: asyncio.Task[None]
    keys: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def url(self) -> str:
        return self.server.url

    def headers(self, run: Resource, key: str | None = None, **more: str) -> dict[str, str]:
        """Of a write: token, and an idempotency key of its own unless one is given."""
        return {
            "Authorization": f"Bearer {TOKENS.mint(run.uid)}",
            "Idempotency-Key": key if key is not None else f"key-{next(self.keys)}",
            "Content-Type": "application/json",
            **more,
        }

    async def post(
        self, run: Resource, verb: str, body: Any = None, *, key: str | None = None, **more: str
    ) -> httpx2.Response:
        """A write of the run's agent."""
        return await self.client.post(
            f"/agent/v1/runs/{run.name}/{verb}", json=body or {}, headers=self.headers(run, key, **more)
        )

    async def inbox(self, run: Resource, wait: int = 0, **params: Any) -> httpx2.Response:
        """Ask for notices."""
        return await self.client.get(
            f"/agent/v1/runs/{run.uid}/inbox", params={"wait": wait, **params}, headers=self.headers(run)
        )

    def waiting(self) -> int:
        """How many long polls are open."""
        return int(self.app.state.waiting())

    async def until_waiting(self, count: int) -> None:
        """Until exactly so many long polls are open."""
        async with asyncio.timeout(LONG_S):
            while self.waiting() != count:
                await SystemClock().sleep(0.01)

    async def restart(self) -> None:
        """Stop the server and start it again on the same port, as the manager does after a crash."""
        port = self.server.port
        await self.stop()
        self.server._port = port
        self.life = Lifecycle()
        self.task = asyncio.create_task(self.server.run(self.life))
        await asyncio.wait_for(self.life.is_ready.wait(), LONG_S)

    async def stop(self) -> float:
        """Stop the server; returns the seconds that it took."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self.life.stopping.set()
        await self.task
        return loop.time() - begun


def problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The problem that the answer is; fails when it is another one, or of another shape."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    wire: dict[str, Any] = response.json()
    assert (wire["status"], wire["code"], wire["type"]) == (status, code, "about:blank"), wire
    assert wire["title"]
    assert wire["detail"]
    assert "Traceback" not in response.text
    return wire


@asynccontextmanager
async def serving(
    bench: RunBench, *, threads: int = 4, hosts: tuple[str, ...] = (), **options: Any
) -> AsyncIterator[AgentPort]:
    """The agent port of ``bench``, with these AgentLimits; unless told otherwise nobody is held up by their rates."""
    served = {name: options.pop(name) for name in ("head_s", "linger_s") if name in options}
    worker_token = options.pop("worker_token", lambda _: None)
    proposer = options.pop("proposer", None)
    limits = AgentLimits(**{"requests_per_s": 1e6, "burst": 1_000_000, "in_flight": 10_000, **options})
    blocking = ThreadBlocking(threads)
    app = create_app(
        bench.store,
        TOKENS,
        clock=SystemClock(),
        blocking=blocking,
        state_dir=bench.folder,
        hosts=hosts,
        limits=limits,
        worker_token=worker_token,
        proposer=proposer,
    )
    server = HttpServer(
        app, "127.0.0.1", 0, setting="agentListen", on_stop=app.state.close, lane=app.state.lane, **served
    )
    server.bind()
    life = Lifecycle()
    task = asyncio.create_task(server.run(life))
    await asyncio.wait_for(life.is_ready.wait(), LONG_S)
    pool = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    try:
        async with httpx2.AsyncClient(base_url=server.url, timeout=LONG_S, trust_env=False, limits=pool) as client:
            port = AgentPort(bench, app, server, client, life, task)
            try:
                yield port
            finally:
                life, task = port.life, port.task
    finally:
        life.stopping.set()
        await asyncio.wait_for(task, LONG_S)
        blocking.close(wait=True)
