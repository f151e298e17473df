"""A server of events for the benches of the stream, in a process of its own so that its costs can be told apart: ours
over a store, or sse-starlette with a queue for each client. Told what to do by lines on standard input:

``figures`` prints the processor time of the serving part in seconds, the memory in KiB and the clients that are there;
``go COUNT RATE`` publishes as many events at that rate a second and prints ``{}`` when it has. It ends with its input.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.read.answers import json_bytes
from api.read.log import to_wire
from api.server import HttpServer
from api.stream.events import PATH
from controllers.runtime.blocking import ThreadBlocking
from controllers.runtime.clock import SystemClock
from controllers.runtime.lifecycle import Lifecycle
from schemas.base import Key
from schemas.event import EventType
from schemas.resource import SYSTEM
from store.contract import Event

OTHERS = 10
"""One event in so many is of another namespace."""
_QUEUE = 1000


def subject(number: int) -> Key:
    """What an event is about."""
    return Key("Mission", "default" if number % OTHERS else "other", "links")


class Ours:
    """The read port over a store; every event is a durable transaction. ``elsewhere_s`` is the processor time of what
    writes, which is no part of the stream."""

    def __init__(self, folder: Path) -> None:
        from api.read.app import create_read_app  # the floor does without it
        from store import open_store

        url, ids = f"sqlite:///{folder / 'remit.db'}", itertools.count(1)
        self.store = open_store(url, now=SystemClock().now, new_id=lambda: f"id-{next(ids):06d}", create=True)
        self._blocking = ThreadBlocking(4)
        self.app: Any = create_read_app(self.store, clock=SystemClock(), blocking=self._blocking)
        self.elsewhere_s = 0.0

    @property
    def clients(self) -> int:
        return int(self.app.state.stream.clients)

    def let_go(self) -> None:
        """End every stream."""
        self.app.state.close()

    def close(self) -> None:
        """Let go of the store."""
        self._blocking.close(wait=True)
        self.store.close()

    def publish(self, number: int, data: dict[str, Any]) -> None:
        began = time.thread_time()
        with self.store.transaction(SYSTEM) as tx:
            tx.event(EventType.UPDATED, subject(number), reason="Bench", message="an event of usual length", data=data)
        self.elsewhere_s += time.thread_time() - began


class Floor:
    """sse-starlette, as its pages say: a queue for each client, which drops the oldest when it is full. The events are
    rendered before."""

    elsewhere_s = 0.0

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[tuple[int, str]]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.app = Starlette(routes=[Route(PATH, self._stream)])

    @property
    def clients(self) -> int:
        return len(self._queues)

    def let_go(self) -> None:
        """Nobody waits."""

    def close(self) -> None:
        """Nothing is left."""

    async def _stream(self, _: Request) -> Response:
        from sse_starlette import EventSourceResponse, ServerSentEvent

        self._loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[int, str]] = asyncio.Queue(_QUEUE)
        self._queues.add(queue)

        async def frames() -> Any:
            try:
                yield ServerSentEvent(data="{}", event="hello")
                while True:
                    number, text = await queue.get()
                    yield ServerSentEvent(data=text, id=str(number), event="log")
            finally:
                self._queues.discard(queue)

        return EventSourceResponse(frames())

    def publish(self, number: int, data: dict[str, Any]) -> None:
        event = Event(
            number, SystemClock().now(), EventType.UPDATED, subject(number), "", SYSTEM, "Bench",
            "an event of usual length", data, "a" * 64, "b" * 64,
        )  # fmt: skip
        text = json_bytes(to_wire(event)).decode()

        def give() -> None:
            for queue in self._queues:
                if queue.full():
                    queue.get_nowait()
                queue.put_nowait((number, text))

        assert self._loop is not None
        self._loop.call_soon_threadsafe(give)


def _go(side: Ours | Floor, count: int, rate: float) -> None:
    began = time.monotonic()
    for number in range(1, count + 1):
        side.publish(number, {"t": time.monotonic(), "n": number})
        left = began + number / rate - time.monotonic()
        if left > 0:
            time.sleep(left)  # noqa: TID251 - real time is measured


def _memory_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


async def _serve(side: Ours | Floor) -> None:
    """Until the input ends."""
    server, life, loop = (
        HttpServer(side.app, "127.0.0.1", 0, on_stop=side.let_go),
        Lifecycle(),
        asyncio.get_running_loop(),
    )
    server.bind()
    work = asyncio.create_task(server.run(life))
    await life.is_ready.wait()
    print(json.dumps({"port": server.port}), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        match line.split():
            case ["figures"]:
                spent = time.process_time() - side.elsewhere_s
                print(json.dumps({"cpu": spent, "memory": _memory_kib(), "clients": side.clients}), flush=True)
            case ["go", count, rate]:
                await loop.run_in_executor(None, _go, side, int(count), float(rate))
                print("{}", flush=True)
    life.stopping.set()
    await work


def main() -> None:
    """Serve one side, ours or the floor."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # the floor writes on to clients that have left
    kind, folder = sys.argv[1:]
    side = Ours(Path(folder)) if kind == "ours" else Floor()
    asyncio.run(_serve(side))
    side.close()


if __name__ == "__main__":
    main()
