"""The server as a part of the process: its port, its readiness, its end, and its start after that."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from api.server import HttpServer
from controllers.runtime.lifecycle import Lifecycle
from schemas.errors import Stalled

pytestmark = pytest.mark.asyncio
LONG_S = 60.0


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


async def refuses_to_start(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no"})


async def get(url: str) -> str:
    async with httpx2.AsyncClient(trust_env=False, timeout=LONG_S) as client:
        return (await client.get(url)).text


async def test_it_is_ready_when_it_answers_and_can_run_again() -> None:
    server = HttpServer(hello, "127.0.0.1", 0)
    for _ in range(2):
        life = Lifecycle()
        task = asyncio.create_task(server.run(life))
        await asyncio.wait_for(life.is_ready.wait(), LONG_S)
        assert await get(server.url) == "hi"
        life.stopping.set()
        await asyncio.wait_for(task, LONG_S)


async def test_a_taken_port_is_named_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = HttpServer(hello, "127.0.0.1", port, setting="agentListen")
        with pytest.raises(Stalled) as caught:
            await server.run(Lifecycle())
    text = str(caught.value)
    assert caught.value.reason == "AddressInUse"
    assert f"127.0.0.1:{port}" in text
    assert "agentListen" in text
    assert "ss -ltnp" in text


@pytest.mark.parametrize(("host", "port"), [("203.0.113.7", 1), ("no such host", 1), ("127.0.0.1", 99999), ("::zz", 1)])
async def test_an_address_that_is_not_ours_is_named(host: str, port: int) -> None:
    with pytest.raises(Stalled) as caught:
        HttpServer(hello, host, port, setting="listen").bind()
    assert caught.value.reason == "AddressUnusable"
    assert host in str(caught.value)
    assert "listen" in str(caught.value)


async def test_the_port_is_known_before_it_answers() -> None:
    server = HttpServer(hello, "127.0.0.1", 0)
    server.bind()
    server.bind()
    assert server.port > 0
    assert server.url == f"http://127.0.0.1:{server.port}"
    life = Lifecycle()
    life.stopping.set()
    await asyncio.wait_for(server.run(life), LONG_S)


async def test_an_address_for_everybody_is_reached_on_loopback() -> None:
    assert HttpServer(hello, "0.0.0.0", 8421).url == "http://127.0.0.1:8421"
    assert HttpServer(hello, "::1", 8421).url == "http://[::1]:8421"


async def test_an_application_that_cannot_start_does_not_end_the_process() -> None:
    server = HttpServer(refuses_to_start, "127.0.0.1", 0)
    with pytest.raises(RuntimeError, match="did not start"):
        await server.run(Lifecycle())


async def test_signals_are_left_to_the_process() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        server, life = HttpServer(hello, "127.0.0.1", 0), Lifecycle()
        task = asyncio.create_task(server.run(life))
        await asyncio.wait_for(life.is_ready.wait(), LONG_S)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await get(server.url) == "hi"
        assert seen == [signal.SIGTERM]
        life.stopping.set()
        await asyncio.wait_for(task, LONG_S)
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_cancelled_server_lets_go_of_its_port() -> None:
    server, life = HttpServer(hello, "127.0.0.1", 0), Lifecycle()
    task = asyncio.create_task(server.run(life))
    await asyncio.wait_for(life.is_ready.wait(), LONG_S)
    port = server.port
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
