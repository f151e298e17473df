"""The live stream: nothing is missing and nothing comes twice, whatever happens to connections."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope, Send

from api.read.answers import Reader
from api.read.kube.lists import query_of
from api.read.kube.shape import Form, Wanted, document
from api.read.kube.watch import Watch
from api.server import HttpServer
from api.stream.events import EventStream, Subscription, subscription_of
from api.stream.follower import RING, Follower
from api.stream.response import Push, Streaming
from controllers.runtime.blocking import InlineBlocking
from controllers.runtime.clock import SystemClock
from controllers.runtime.lifecycle import Lifecycle
from schemas import registry
from schemas.base import Key
from schemas.event import EventType
from schemas.resource import SYSTEM, Declared
from store.contract import Store
from tests.fakes.read_api import LONG_S, StoreClock, asking, listening, read_app
from tests.fakes.stores import SettableClock, SqliteHarness

pytestmark = pytest.mark.asyncio
SUBJECT = Key("Mission", "default", "one")


class QuickClock:
    """Sleeps end at the next turn of the loop."""

    def __init__(self, now: SettableClock) -> None:
        self._now = now
        self.seconds = 0.0

    def now(self) -> datetime:
        return self._now()

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)  # noqa: TID251 - gives way, waits for nothing


class Scene:
    """A store with a stream over it."""

    def __init__(self, harness: SqliteHarness, *, pushes: bool = False, ring: int = RING) -> None:
        self.store: Store = harness.open()
        self.clock = QuickClock(harness.clock)
        reader = Reader(self.store, InlineBlocking())
        self.follower = Follower(reader, self.clock, document, ring=ring)
        self.stream = EventStream(reader, self.follower, self.clock)
        self._pushes = pushes

    def write(self, count: int = 1, *, subject: Key = SUBJECT, type_: str = EventType.UPDATED, **data: Any) -> None:
        with self.store.transaction(SYSTEM) as tx:
            for _ in range(count):
                tx.event(type_, subject, reason="Test", message="a <script> line\nand another", data=data)

    @asynccontextmanager
    async def connected(self, last: str = "", wanted: Subscription | None = None) -> AsyncIterator[Client]:
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        client = Client()
        frames = self.stream.frames(
            wanted or Subscription(kpi=False), last, gone, client.push if self._pushes else never
        )
        client.chunks = frames
        try:
            yield client
        finally:
            gone.cancel()
            await client.leave()
            await frames.aclose()  # type: ignore[attr-defined]


def never(_: bytes) -> bool:
    return False


class Client:
    """Reads frames and remembers the last id, as a browser does. While a piece that was pushed has not been read, no
    other one can be pushed."""

    chunks: AsyncIterator[bytes]

    def __init__(self) -> None:
        self._next: asyncio.Task[bytes] | None = None
        self._pushed: asyncio.Queue[bytes] = asyncio.Queue(1)
        self.pushes = 0
        self.last = ""

    def push(self, piece: bytes) -> bool:
        if self._pushed.full():
            return False
        self.pushes += 1
        self._pushed.put_nowait(piece)
        return True

    async def leave(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait([self._next])

    async def _piece(self) -> bytes:
        """What was pushed before what was asked for."""
        if self._next is None:
            self._next = asyncio.ensure_future(anext(self.chunks))  # type: ignore[arg-type]
        pushed = asyncio.ensure_future(self._pushed.get())
        try:
            await asyncio.wait([self._next, pushed], timeout=LONG_S, return_when=asyncio.FIRST_COMPLETED)
            if pushed.done():
                return pushed.result()
            assert self._next.done(), "nothing came"
            done, self._next = self._next, None
            return done.result()
        finally:
            pushed.cancel()

    async def chunk(self) -> list[dict[str, str]]:
        """The frames of the next piece."""
        data = await self._piece()
        frames = []
        for block in data.decode().strip("\n").split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
            self.last = fields.get("id", self.last)
            frames.append(fields)
        return frames

    async def until(self, event: str) -> dict[str, str]:
        """The next frame of that event."""
        while True:
            for frame in await self.chunk():
                if frame.get("event") == event:
                    return frame


@pytest.fixture(params=["asked", "pushed"])
def pushes(request: pytest.FixtureRequest) -> bool:
    """Whether the server can write to a client past its generator."""
    return bool(request.param == "pushed")


@pytest.fixture
def scene(tmp_path: Path, pushes: bool) -> Iterator[Scene]:
    harness = SqliteHarness(tmp_path)
    made = Scene(harness, pushes=pushes)
    yield made
    harness.close()


@asynccontextmanager
async def running(scene: Scene) -> AsyncIterator[None]:
    scene.follower.start()
    try:
        yield
    finally:
        await scene.follower.stop()
        await scene.stream.stop()


def seqs(frames: list[dict[str, str]]) -> list[int]:
    return [json.loads(f["data"])["remit"]["seq"] for f in frames if f.get("event") == "log"]


async def test_a_thousand_disconnections_lose_nothing_and_repeat_nothing(scene: Scene) -> None:
    chance = random.Random(7)
    seen: list[int] = []
    last, written = "", 0
    async with running(scene):
        async with scene.connected() as client:
            await client.chunk()
            last = client.last
        for _ in range(1000):
            before = chance.randrange(3)
            scene.write(before)
            written += before
            async with scene.connected(last) as client:
                await client.chunk()
                during = chance.randrange(3)
                scene.write(during)
                written += during
                while len(seen) < written and chance.random() < 0.8:
                    seen += seqs(await client.chunk())
                last = client.last
        async with scene.connected(last) as client:
            while len(seen) < written:
                seen += seqs(await client.chunk())
    first = seen[0]
    assert seen == list(range(first, first + written))


async def test_an_id_of_another_history_asks_for_a_fresh_start(scene: Scene) -> None:
    scene.write(3)
    async with running(scene):
        for last in ("x", "000000000000-2", "abcdefabcdef-2", "abcdefabcdef-99999"):
            async with scene.connected(last) as client:
                frames = await client.chunk()
                assert [f["event"] for f in frames if "event" in f] == ["resync"]
        async with scene.connected(client.last) as client:
            assert [f["event"] for f in await client.chunk() if "event" in f] == ["hello"]


async def test_a_client_that_falls_behind_is_told_to_load_anew(tmp_path: Path, pushes: bool) -> None:
    harness = SqliteHarness(tmp_path)
    scene = Scene(harness, pushes=pushes, ring=3)
    async with running(scene), scene.connected() as client, scene.connected() as other:
        await client.chunk()
        await other.chunk()
        for _ in range(2):  # it is live, and then does not read
            scene.write()
            await client.until("log")
        for _ in range(20):
            scene.write()
            await other.until("log")
        frame = await client.until("resync")
        assert "behind" in frame["data"]
        scene.write()
        assert await client.until("log")
        assert (client.pushes > 0) is (other.pushes > 0) is pushes
    harness.close()


async def test_subscriptions_pick_rows(scene: Scene) -> None:
    wanted = {
        "kinds=Run": 1,
        "namespaces=acme": 1,
        "types=RunStarted": 1,
        "missions=one": 2,
        "missions=acme/two": 1,
        "kinds=Mission,Run": 4,
    }
    async with running(scene):
        for query, count in wanted.items():
            picked = replace(subscription_of(httpx_params(query)), kpi=False)
            async with scene.connected(wanted=picked) as client:
                await client.chunk()
                scene.write()
                scene.write(subject=Key("Mission", "acme", "two"))
                scene.write(subject=Key("Run", "default", "r"), type_=EventType.RUN_STARTED, related=[""])
                scene.write(subject=Key("Mission", "default", "one"))
                scene.write(subject=Key("Agent", "default", "last"), type_=EventType.DELETED)
                found: list[int] = []
                while len(found) < count:
                    found += seqs(await client.chunk())
                assert len(found) == count, query


def httpx_params(query: str) -> Any:
    return QueryParams(query)


async def test_heartbeats_carry_the_place_of_a_client_that_wants_nothing(scene: Scene) -> None:
    wanted = Subscription(types=frozenset({"EngineStopped"}), kpi=False)
    async with running(scene), scene.connected(wanted=wanted) as client:
        await client.chunk()
        scene.write(5)
        before = client.last
        while client.last == before:
            await client.chunk()
        assert client.last.endswith("-5")


async def test_figures_come_with_what_changes(scene: Scene) -> None:
    async with running(scene), scene.connected(wanted=Subscription()) as client:
        scene.write()
        found = json.loads((await client.until("kpi"))["data"])
        assert found["needsYou"] == 0


async def test_too_many_streams_are_429(tmp_path: Path) -> None:
    harness = SqliteHarness(tmp_path)
    app = read_app(harness.open(), StoreClock(harness.clock), most_streams=0)
    async with asking(app) as client:
        answer = await client.get("/api/v1/events/stream")
        assert (answer.status_code, answer.json()["code"]) == (429, "TooManyStreams")
        assert (await client.get("/api/v1/events/stream?types=Wish")).status_code == 429
    harness.close()


async def test_a_tenant_has_as_many_streams_open_as_it_may(tmp_path: Path) -> None:
    harness = SqliteHarness(tmp_path)
    store = harness.open()
    with store.transaction(SYSTEM) as tx:
        tx.create(Declared("Tenant", "", "acme", {"limits": {"maxEventStreams": 2}}), manager="source/a")
    app = read_app(store, StoreClock(harness.clock))
    path = "/api/v1/events/stream?kpi=0"

    async def status(client: httpx2.AsyncClient, more: str) -> int:
        async with client.stream("GET", f"{url}{path}{more}") as answer:
            if answer.status_code == 429:
                assert "spec.limits.maxEventStreams" in json.loads(await answer.aread())["detail"]
            return answer.status_code

    async with httpx2.AsyncClient(timeout=LONG_S, trust_env=False) as client, listening(app) as server:
        url = f"http://127.0.0.1:{server.port}"
        for _ in range(3):  # one that was closed, or that asked for the head alone, gives its place back
            assert (await client.head(f"{url}{path}&namespaces=acme")).status_code == 200
        async with client.stream("GET", f"{url}{path}&namespaces=acme,other") as one:
            assert one.status_code == 200
            async with client.stream("GET", f"{url}{path}") as everything:
                assert everything.status_code == 200
                assert await status(client, "&missions=acme/m") == 429
                assert await status(client, "") == 429
                assert await status(client, "&namespaces=other") == 200
        clock = SystemClock()
        while await status(client, "&namespaces=acme") == 429:
            await clock.sleep(0.01)  # the server has yet to see that they left
    harness.close()


async def test_the_server_stops_while_streams_are_open(tmp_path: Path) -> None:
    harness = SqliteHarness(tmp_path)
    store = harness.open()
    app = read_app(store, StoreClock(harness.clock))
    async with httpx2.AsyncClient(timeout=LONG_S, trust_env=False) as client:
        async with listening(app) as server:
            response = await client.send(client.build_request("GET", f"{server.url}/api/v1/events/stream"), stream=True)
            assert response.headers["content-type"].startswith("text/event-stream")
            lines = response.aiter_lines()
            assert (await anext(lines)).startswith("retry:")
            head = await client.head(f"{server.url}/api/v1/events/stream")
            assert head.status_code == 200
        rest = [line async for line in lines]
        assert "event: hello" in rest
        await response.aclose()
    harness.close()


async def test_a_reader_that_never_reads_holds_up_nobody() -> None:
    async def chunks(gone: asyncio.Future[Any], _: Push) -> AsyncIterator[bytes]:
        while not gone.done():
            yield b"x"

    left = asyncio.Event()
    sent = 0

    async def receive() -> dict[str, str]:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal sent
        sent += 1
        if sent == 3:
            left.set()
        await asyncio.sleep(0)  # noqa: TID251 - gives way

    await asyncio.wait_for(Streaming(chunks, media_type="text/plain")({"type": "http"}, receive, send), LONG_S)
    assert sent < 20


async def test_a_watch_tells_what_joins_and_what_leaves_its_selection(scene: Scene) -> None:
    def declared(name: str, team: str) -> Declared:
        return Declared("Mission", "default", name, {"title": name}, {"team": team})

    with scene.store.transaction(SYSTEM) as tx:
        first = tx.create(declared("first", "a"))
        tx.create(declared("other", "b"))
    query = query_of(QueryParams({"labelSelector": "team=a"}))
    reader = Reader(scene.store, InlineBlocking())
    watch = Watch(
        registry.by_kind("Mission"), "default", query, Wanted(Form.OBJECT), reader, scene.follower, scene.clock
    )
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with running(scene):
        lines = watch.lines(gone)

        async def told() -> tuple[str, str]:
            line = json.loads(await asyncio.wait_for(anext(lines), LONG_S))
            return line["type"], line["object"]["metadata"]["name"]

        assert await told() == ("ADDED", "first")
        with scene.store.transaction(SYSTEM) as tx:
            tx.put_spec(first, declared("first", "b"))
            second = tx.create(declared("second", "a"))
        assert await told() == ("DELETED", "first")
        assert await told() == ("ADDED", "second")
        with scene.store.transaction(SYSTEM) as tx:
            tx.put_status(second, {"state": "Inbox"})
        assert await told() == ("MODIFIED", "second")
        with scene.store.transaction(SYSTEM) as tx:
            changed = tx.get(second.key)
            assert changed is not None
            tx.remove(changed)
        assert await told() == ("DELETED", "second")
        gone.set_result(None)
        assert [line async for line in lines] == []


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_pieces_arrive_whole_by_either_version_of_http(version: str) -> None:
    pieces = [b"one\n", b"", b"x" * 200_000, b"last\n"]

    async def chunks(_gone: asyncio.Future[Any], _push: Push) -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await Streaming(chunks, media_type="text/plain")(scope, receive, send)
            return
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})

    server, life = HttpServer(answer, "127.0.0.1", 0), Lifecycle()
    server.bind()
    task = asyncio.create_task(server.run(life))
    await asyncio.wait_for(life.is_ready.wait(), LONG_S)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET / HTTP/{version}\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    got = await asyncio.wait_for(reader.read(), LONG_S)
    writer.close()
    life.stopping.set()
    await asyncio.wait_for(task, LONG_S)
    head, _, body = got.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        whole = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]
            if int(size, 16) == 0:
                break
        body = whole
    assert body == b"".join(pieces)
