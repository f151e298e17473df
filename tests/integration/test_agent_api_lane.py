"""The lane of authorize, byte for byte: it answers as the ordinary way does, and leaves it what is not plain."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from api import lane
from api.lane import LaneProtocol
from controllers.runtime.clock import SystemClock
from schemas.agent import AgentSpec
from schemas.resource import Declared, Resource
from tests.fakes.agent_port import LONG_S, TOKENS, AgentPort, serving
from tests.fakes.runs import RunBench

pytestmark = pytest.mark.asyncio
ORDINARY = ("Connection: Keep-Alive, x",)
"""A header that the lane does not understand, and that means nothing."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[RunBench]:
    made = RunBench(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def run(bench: RunBench) -> Resource:
    made = bench.order()
    with bench.tx() as tx:
        agent = tx.get_by_uid(str(made.spec["agentUid"]))
        assert agent is not None
        spec = {**agent.spec, "autonomyLevel": "Specialist", "tools": [{"name": "*"}]}
        wire = AgentSpec.model_validate(spec).to_wire()
        tx.put_spec(agent, Declared(agent.kind, agent.namespace, agent.name, wire, agent.labels))
    return made


def question(run: Resource, key: str, *more: str, body: Any = None, token: str = "") -> bytes:
    text = json.dumps({"tool": "read_file", "args": {"path": "a"}} if body is None else body)
    token = token or TOKENS.mint(run.uid)
    lines = (
        "POST /agent/v1/authorize HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {token}",
        f"Idempotency-Key: {key}", "Content-Type: application/json", f"Content-Length: {len(text)}", *more,
    )  # fmt: skip
    return ("\r\n".join(lines) + "\r\n\r\n" + text).encode()


class Wire:
    """A connection of bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, port: AgentPort) -> Wire:
        return cls(*await asyncio.open_connection("127.0.0.1", port.server.port))

    async def answer(self) -> tuple[bytes, list[bytes], Any]:
        """Status line, headers but the date, and body."""
        async with asyncio.timeout(LONG_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n")
            first, *lines = head.split(b"\r\n")
            length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
            body = await self.reader.readexactly(length)
        return first.rstrip(), sorted(line for line in lines if not line.startswith(b"date:")), json.loads(body)

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


async def test_the_lane_answers_as_the_ordinary_way_does_byte_for_byte(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        taken = count_taken(port)
        wire = await Wire.to(port)
        wire.writer.write(question(run, "k1"))
        plain = await wire.answer()
        assert plain[2]["decision"] == "allow"
        wire.writer.write(question(run, "k1", *ORDINARY))
        assert await wire.answer() == plain
        wire.writer.write(question(run, "k1"))
        assert await wire.answer() == plain
        assert taken == [True, True]
        await wire.close()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"token": "rmt_run_no"}, 401),
        ({"body": {"tool": ""}}, 422),
        ({"body": {"tool": "t", "unknown": 1}}, 422),
        ({"body": {"tool": "t", "idempotencyKey": "other"}}, 422),
        ({"body": {"tool": "t", "argsDigest": "sha256:" + "0" * 64}}, 422),
    ],
)
async def test_what_is_wrong_is_refused_by_the_ordinary_way(
    bench: RunBench, run: Resource, change: dict[str, Any], status: int
) -> None:
    async with serving(bench) as port:
        taken = count_taken(port)
        wire = await Wire.to(port)
        wire.writer.write(question(run, "k1", **change))
        assert str(status).encode() in (await wire.answer())[0]
        wire.writer.write(question(run, "k2"))
        assert (await wire.answer())[2]["decision"] == "allow", "the connection goes on"
        assert taken == [False, True]
        await wire.close()


async def test_what_the_gate_refuses_reads_alike_in_the_lane(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        wire = await Wire.to(port)
        for body in ({"tool": "read_file"}, {"tool": "read_file", "args": {"path": "b"}}):
            wire.writer.write(question(run, "k1", body=body))
            lane = await wire.answer()
            wire.writer.write(question(run, "k1", *ORDINARY, body=body))
            assert await wire.answer() == lane
        assert lane[2]["code"] == "KeyReused"
        wire.writer.write(question(run, "k", token=TOKENS.mint("0197ffff-0000-7000-8000-0000000000ff")))
        assert (await wire.answer())[2]["code"] == "TokenDead"
        await wire.close()


async def test_a_body_in_a_packet_of_its_own_is_waited_for_and_a_late_one_goes_the_ordinary_way(
    bench: RunBench, run: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "BODY_WITHIN_S", 0.5)  # a busy machine must not miss that it is held
    async with serving(bench) as port:
        taken = count_taken(port)
        wire = await Wire.to(port)
        data = question(run, "k1")
        wire.writer.write(data[:-5])
        await wire.writer.drain()
        await until(lambda: held(port))
        await until(lambda: not held(port))
        wire.writer.write(data[-5:])
        assert (await wire.answer())[2]["decision"] == "allow"
        assert taken == []
        await wire.close()


async def test_requests_that_come_together_are_answered_in_their_order(bench: RunBench, run: Resource) -> None:
    async with serving(bench) as port:
        wire = await Wire.to(port)
        with bench.tx():  # nobody else writes meanwhile
            wire.writer.write(question(run, "k1"))
            await until(lambda: any(each.in_lane for each in connections(port)))
            wire.writer.write(question(run, "k2", body={"tool": "push_tag"}) + question(run, "k3", body={"tool": ""}))
            await until(lambda: any(each._later for each in connections(port)))
        answers = [await wire.answer() for _ in range(3)]
        assert [a[2].get("decision", a[2].get("status")) for a in answers] == ["allow", "ask", 422]
        await wire.close()


async def test_whoever_hangs_up_leaves_its_place(bench: RunBench, run: Resource) -> None:
    async with serving(bench, in_flight=1) as port:
        for number in range(3):
            wire = await Wire.to(port)
            wire.writer.write(question(run, f"gone-{number}"))
            await wire.writer.drain()
            wire.writer.transport.abort()
        wire = await Wire.to(port)
        for number in range(50):  # the server may not have seen yet that they hung up
            wire.writer.write(question(run, f"k{number}"))
            answer = await wire.answer()
            if b"200" in answer[0]:
                break
            assert answer[2]["code"] == "TooManyAtOnce"
        assert answer[2]["decision"] == "allow"
        await wire.close()


async def test_a_question_that_is_being_decided_is_answered_when_the_server_stops(
    bench: RunBench, run: Resource
) -> None:
    async with serving(bench) as port:
        wire = await Wire.to(port)
        with bench.tx():  # nobody else writes meanwhile
            wire.writer.write(question(run, "k1"))
            await until(lambda: any(each.in_lane for each in connections(port)))
            port.life.stopping.set()
            await until(lambda: any(each._ending for each in connections(port)))
        assert (await wire.answer())[2]["decision"] == "allow"
        assert await wire.reader.read() == b""
        await wire.close()


async def until(fact: Callable[[], object]) -> None:
    async with asyncio.timeout(LONG_S):
        while not fact():
            await SystemClock().sleep(0.005)


def connections(port: AgentPort) -> list[Any]:
    """Protocols of the server that are open."""
    return [each for each in gc.get_objects() if type(each).__mro__.count(LaneProtocol) and each.transport is not None]


def held(port: AgentPort) -> bool:
    return any(each._held for each in connections(port))


def count_taken(port: AgentPort) -> list[bool]:
    """Whether the lane took each question that it was shown."""
    taken: list[bool] = []
    lane, real = port.app.state.lane, port.app.state.lane.take

    def take(*args: Any) -> Any:
        found = real(*args)
        taken.append(found is not None)
        return found

    lane.take = take
    return taken
