"""The agent port under load and abuse: floods, huge and slow bodies, half requests, a store that does not answer."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from controllers.runtime.clock import SystemClock
from schemas.resource import Resource
from schemas.run import RunState
from tests.fakes.agent_port import AgentPort, problem, serving
from tests.fakes.runs import RunBench

pytestmark = pytest.mark.asyncio
MIB = 1024 * 1024
LONG_S = 60.0
"""Longest wait for what takes a second on an idle machine."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[RunBench]:
    made = RunBench(tmp_path, now=SystemClock().now)
    yield made
    made.close()


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[RunBench]:
    """One that does not wait long for a locked store."""
    made = RunBench(tmp_path, now=SystemClock().now, busy_wait_s=1.0)
    yield made
    made.close()


@pytest.fixture
def run(bench: RunBench) -> Resource:
    return bench.order(state=RunState.RUNNING)


def head(port: AgentPort, run: Resource, verb: str = "progress", **more: str) -> bytes:
    """The head of a request, without its last empty line."""
    lines = [f"POST /agent/v1/runs/{run.name}/{verb} HTTP/1.1", f"Host: 127.0.0.1:{port.server.port}"]
    lines += [f"{name}: {value}" for name, value in {**port.headers(run), **more}.items()]
    return ("\r\n".join(lines) + "\r\n").encode()


@contextlib.asynccontextmanager
async def connection(port: AgentPort) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port.server.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, object]]:
    """Status and body of one answer."""
    text = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), LONG_S)).decode()
    length = next(
        int(line.partition(":")[2]) for line in text.split("\r\n") if line.lower().startswith("content-length")
    )
    return int(text.split()[1]), json.loads(await reader.readexactly(length))


async def ends(reader: asyncio.StreamReader) -> None:
    """The connection is closed from there, with nothing more to read; what was still on its way may reset it."""
    with contextlib.suppress(ConnectionError):  # a broken pipe, when a write met it first
        assert await asyncio.wait_for(reader.read(), LONG_S) == b""


async def test_a_thousand_requests_at_once_are_all_answered(bench: RunBench) -> None:
    runs = [bench.order(state=RunState.RUNNING) for _ in range(20)]
    async with serving(bench) as port:
        answers = await asyncio.gather(*(port.post(runs[n % 20], "usage", {"inputTokens": 1}) for n in range(1000)))
        assert {a.status_code for a in answers} == {200}
    assert [bench.status(run.uid).spend.input_tokens for run in runs] == [50] * 20
    with bench.store.snapshot() as snapshot:
        assert snapshot.verify_events().problem == ""


async def test_a_run_that_asks_too_often_is_put_off_and_others_are_not(bench: RunBench, run: Resource) -> None:
    other = bench.order(state=RunState.RUNNING)
    async with serving(bench, requests_per_s=0.01, burst=5) as port:
        answers = [await port.post(run, "heartbeat") for _ in range(7)]
        assert [a.status_code for a in answers] == [200] * 5 + [429] * 2
        problem(answers[-1], 429, "TooManyRequests")
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 100
        assert (await port.post(other, "heartbeat")).status_code == 200


async def test_a_run_has_only_so_many_requests_open(bench: RunBench, run: Resource) -> None:
    async with serving(bench, in_flight=2) as port, contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            reader, writer = await stack.enter_async_context(connection(port))
            writer.write(head(port, run) + b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n{")
            # The server asks for the rest only when the request is let in.
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        problem(await port.post(run, "heartbeat"), 429, "TooManyAtOnce")


async def test_more_than_the_port_can_bear_is_turned_away(bench: RunBench, run: Resource) -> None:
    async with serving(bench, all_in_flight=1) as port:
        poll = asyncio.create_task(port.inbox(run, 50))
        await port.until_waiting(1)
        busy = await port.post(run, "heartbeat")
        problem(busy, 503, "Overloaded")
        assert busy.headers["retry-after"] == "1"
        poll.cancel()


async def test_a_body_that_says_it_is_huge_is_refused_at_once(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port, connection(port) as (reader, writer):
        writer.write(head(port, run) + b"Content-Length: 109951162777600\r\n\r\n")
        status, wire = await answer(reader)
        assert (status, wire["code"]) == (413, "BodyTooLarge")


@pytest.mark.parametrize(("verb", "size"), [("progress", 2 * MIB), ("artifacts", 48 * MIB)])
async def test_a_huge_body_is_refused_while_it_arrives(bench: RunBench, run: Resource, verb: str, size: int) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(size // 65536):
            yield b"x" * 65536

    async with serving(bench) as port:
        path = f"/agent/v1/runs/{run.name}/{verb}"
        for content in (chunks(), b"x" * size):
            refused = await port.client.post(path, content=content, headers=port.headers(run))
            problem(refused, 413, "BodyTooLarge")
        assert (await port.post(run, "heartbeat")).status_code == 200


async def test_a_body_without_end_is_cut_off_after_its_answer(bench: RunBench, run: Resource) -> None:
    async with serving(bench, linger_s=0.5) as port, connection(port) as (_, writer):
        writer.write(head(port, run) + b"Transfer-Encoding: chunked\r\n\r\n")
        cut = False
        async with asyncio.timeout(LONG_S):
            while not cut:
                writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                try:
                    await writer.drain()
                except OSError:
                    cut = True
        assert (await port.post(run, "heartbeat")).status_code == 200


async def test_the_largest_artifact_is_taken_and_one_byte_more_is_not(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        largest = base64.b64encode(b"\0" * 32 * MIB).decode()
        kept = await port.post(run, "artifacts", {"name": "big", "base64": largest})
        assert (kept.status_code, kept.json()["size"]) == (200, 32 * MIB)
        more = base64.b64encode(b"\0" * (32 * MIB + 1)).decode()
        problem(await port.post(run, "artifacts", {"name": "bigger", "base64": more}), 413, "ArtifactTooLarge")
    (path,) = bench.folder.glob("artifacts/*/*")
    assert path.stat().st_size == 32 * MIB


async def test_large_bodies_of_many_runs_take_turns(bench: RunBench) -> None:
    runs = [bench.order(state=RunState.RUNNING) for _ in range(6)]
    body = {"name": "big", "base64": base64.b64encode(b"\0" * 8 * MIB).decode()}
    async with serving(bench, large_bodies=2) as port:
        answers = await asyncio.gather(*(port.post(run, "artifacts", body) for run in runs))
        assert {a.status_code for a in answers} == {200}


async def test_a_slow_body_is_given_up(bench: RunBench, run: Resource) -> None:
    async with serving(bench, small_body_s=0.5, linger_s=5) as port, connection(port) as (reader, writer):
        writer.write(head(port, run) + b"Content-Length: 1000\r\n\r\n")

        # Past the stream: a refused write would take the answer from its reader.
        line = writer.get_extra_info("socket").dup()

        async def drip() -> None:
            with line, contextlib.suppress(OSError):
                while True:
                    await asyncio.get_running_loop().sock_sendall(line, b" ")
                    await SystemClock().sleep(0.05)

        dripping = asyncio.create_task(drip())
        status, wire = await answer(reader)
        assert (status, wire["code"]) == (408, "BodyTooSlow")
        await ends(reader)
        await dripping


async def test_a_slow_head_is_given_up(bench: RunBench, run: Resource) -> None:
    async with serving(bench, head_s=0.5) as port:
        for begun in (b"", b"POST /agent", head(port, run)):
            async with connection(port) as (reader, writer):
                with contextlib.suppress(OSError):
                    while not reader.at_eof() and reader.exception() is None:
                        writer.write(begun or b"")
                        begun = b"X-A: b\r\n" if begun.endswith(b"\n") else b"x" if begun else b""
                        await writer.drain()
                        await SystemClock().sleep(0.02)
                await ends(reader)
        assert (await port.post(run, "heartbeat")).status_code == 200


async def test_a_kept_connection_is_good_for_many_requests(bench: RunBench, run: Resource) -> None:
    async with serving(bench, head_s=0.3) as port, connection(port) as (reader, writer):
        for _ in range(3):
            writer.write(head(port, run, "heartbeat") + b"Content-Length: 2\r\n\r\n{}")
            assert (await answer(reader))[0] == 200
            await SystemClock().sleep(0.4)


async def test_a_body_that_breaks_off_has_no_effect(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        for _ in range(20):
            async with connection(port) as (_, writer):
                writer.write(head(port, run) + b'Content-Length: 100\r\n\r\n{"message": "x')
                await writer.drain()
        assert (await port.post(run, "heartbeat")).status_code == 200
    assert bench.status(run.uid).progress is None


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\r\n",
        b"GET " + b"a" * 100_000,
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_what_is_not_http_does_no_harm(bench: RunBench, run: Resource, raw: bytes) -> None:
    async with serving(bench, head_s=0.5) as port:
        async with connection(port) as (reader, writer):
            writer.write(raw)
            said = await asyncio.wait_for(reader.read(1000), LONG_S)
            assert b" 200 " not in said[:20]
        assert (await port.post(run, "heartbeat")).status_code == 200


async def test_a_locked_store_is_a_passing_fault_and_loses_nothing(hasty: RunBench) -> None:
    bench, run = hasty, hasty.order(state=RunState.RUNNING)
    async with serving(bench) as port:
        locker = sqlite3.connect(bench.path, isolation_level=None)
        locker.execute("BEGIN IMMEDIATE")
        held = await asyncio.gather(*(port.post(run, "usage", {"inputTokens": 1}, key=f"k{n}") for n in range(5)))
        for refused in held:
            problem(refused, 503, "StoreUnavailable")
            assert int(refused.headers["retry-after"]) >= 1
            assert str(bench.folder) not in refused.text
        # Reading goes on, and a heartbeat that is not due needs no writing.
        assert (await port.inbox(run)).status_code == 200
        locker.execute("ROLLBACK")
        locker.close()
        again = [await port.post(run, "usage", {"inputTokens": 1}, key=f"k{n}") for n in range(5)]
        assert {a.status_code for a in again} == {200}
    assert bench.status(run.uid).spend.input_tokens == 5


async def test_a_disk_that_is_full_is_a_passing_fault(
    bench: RunBench, run: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"name": "a", "base64": "AAEC"}
    async with serving(bench) as port:
        (bench.folder / "artifacts").write_text("in the way")
        refused = await port.post(run, "artifacts", body, key="k")
        problem(refused, 503, "StoreUnavailable")
        assert str(bench.folder) not in refused.text
        (bench.folder / "artifacts").unlink()
        assert (await port.post(run, "artifacts", body, key="k")).status_code == 200


async def test_a_fault_of_ours_is_a_problem_without_its_insides(
    bench: RunBench, run: Resource, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("secret detail")

    monkeypatch.setattr("controllers.runs.reports.progress", broken)
    async with serving(bench) as port:
        answered = await port.post(run, "progress", {"message": "x"})
        problem(answered, 500, "InternalError")
        assert "secret" not in answered.text
        assert (await port.post(run, "heartbeat")).status_code == 200
    assert "a request failed" in caplog.text


async def test_a_server_ends_in_time_whatever_its_clients_do(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port, contextlib.AsyncExitStack() as stack:
        poll = asyncio.create_task(port.inbox(run, 50))
        await port.until_waiting(1)
        took = []
        while len(took) < 5 and (not took or took[-1] >= 3):  # the best of some: others use the machine, too
            if took:
                await port.restart()
                poll = asyncio.create_task(port.inbox(run, 50))
                await port.until_waiting(1)
            for begun in (b"", b"POST /agent", head(port, run) + b"Content-Length: 1000\r\n\r\n{"):
                _, writer = await stack.enter_async_context(connection(port))
                writer.write(begun)
                await writer.drain()
            assert (await port.post(run, "heartbeat")).status_code == 200
            took.append(await port.stop())
            assert (await poll).json() == {"items": []}
        assert min(took) < 3
        with pytest.raises(OSError, match="onnect"):
            await asyncio.open_connection("127.0.0.1", port.server.port)


async def test_a_request_that_is_under_way_is_answered_before_the_end(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port.server.port)
        writer.write(head(port, run) + b"Content-Length: 16\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        stopping = asyncio.create_task(port.stop())
        await SystemClock().sleep(0.2)
        assert not stopping.done()
        writer.write(b'{"message": "x"}')
        assert (await answer(reader))[0] == 200
        writer.close()
        await stopping
    assert bench.status(run.uid).progress == "x"
