"""The parts of the MCP proxy that need no server: addresses, waiting calls, request states."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Sequence

import httpx2
import pytest

from api.mcp import stdio
from api.mcp.addresses import AddressRefused, GuardedTransport, allowed, checked
from api.mcp.waiting import MOST, Asked, BadState, Pending, States, identity
from schemas.tool_server import Network

NOWHERE = [
    "169.254.169.254", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "240.0.0.1",
]  # fmt: skip
LOCAL = ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"]
PRIVATE = ["10.0.0.1", "192.168.1.1", "172.16.0.1", "fd00::1", "100.64.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1"]
PUBLIC = ["93.184.216.34", "2606:2800:220:1::1"]


@pytest.mark.parametrize(
    ("addresses", "networks"),
    [(NOWHERE, set()), (LOCAL, {Network.LOOPBACK}), (PRIVATE, {Network.PRIVATE}),
     (PUBLIC, {Network.PUBLIC, Network.PRIVATE})],
    ids=["nowhere", "local", "private", "public"],
)  # fmt: skip
def test_an_address_is_of_the_networks_that_it_should_be(addresses: list[str], networks: set[Network]) -> None:
    for address in addresses:
        found = {network for network in Network if allowed(ipaddress.ip_address(address), network)}
        assert found == networks, address


def answers(*addresses: str) -> object:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


@pytest.mark.asyncio
async def test_one_address_that_is_not_allowed_spoils_the_name() -> None:
    good = answers("93.184.216.34")
    assert await checked("x.example", 443, Network.PUBLIC, good) == "93.184.216.34"  # type: ignore[arg-type]
    for more in ("127.0.0.1", "10.0.0.1", "169.254.169.254"):
        with pytest.raises(AddressRefused):
            await checked("x.example", 443, Network.PUBLIC, answers("93.184.216.34", more))  # type: ignore[arg-type]
    with pytest.raises(AddressRefused):
        await checked("127.0.0.1", 80, Network.PUBLIC, good)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="no address"):
        await checked("x.example", 443, Network.PUBLIC, answers())  # type: ignore[arg-type]


class Recorder(httpx2.AsyncBaseTransport):
    """Answers every request, and remembers it."""

    def __init__(self, *chunks: bytes, **headers: str) -> None:
        self.chunks, self.headers, self.seen = chunks, headers, []  # type: ignore[var-annotated]

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.seen.append(request)

        async def stream() -> object:
            for chunk in self.chunks:
                yield chunk

        return httpx2.Response(200, content=stream(), headers=self.headers)  # type: ignore[arg-type]


def client(inner: Recorder, most: int = 100) -> httpx2.AsyncClient:
    origin = httpx2.URL("https://tools.example/mcp")
    resolve = answers("93.184.216.34")
    guard = GuardedTransport(origin, Network.PUBLIC, most=most, resolve=resolve, inner=inner)  # type: ignore[arg-type]
    return httpx2.AsyncClient(transport=guard, trust_env=False)


@pytest.mark.asyncio
async def test_the_address_that_was_checked_is_the_one_that_is_connected_to_under_its_own_name() -> None:
    inner = Recorder(b"ok")
    async with client(inner) as http:
        await http.get("https://tools.example/mcp")
    (request,) = inner.seen
    assert request.url.host == "93.184.216.34"
    assert request.headers["host"] == "tools.example"
    assert request.extensions["sni_hostname"] == "tools.example"


@pytest.mark.asyncio
async def test_another_origin_is_not_asked() -> None:
    inner = Recorder(b"ok")
    async with client(inner) as http:
        for url in ("http://tools.example/mcp", "https://other.example/mcp", "https://tools.example:444/"):
            with pytest.raises(httpx2.ConnectError):
                await http.get(url)
    assert inner.seen == []


@pytest.mark.asyncio
async def test_an_answer_that_is_too_large_or_packed_is_not_read() -> None:
    async with client(Recorder(b"x" * 60, b"x" * 60)) as http:
        with pytest.raises(httpx2.ReadError, match="larger"):
            await http.get("https://tools.example/mcp")
    async with client(Recorder(b"x", **{"content-encoding": "gzip"})) as http:
        with pytest.raises(httpx2.ReadError, match="packed"):
            await http.get("https://tools.example/mcp")


def test_the_environment_of_a_program_is_what_is_declared() -> None:
    found = stdio.environment("/bin", None, {"LANG": "C", "A": "b"})
    assert found == {"PATH": "/bin", "LANG": "C", "LC_ALL": "C.UTF-8", "A": "b"}


# Calls that wait.


def asked(key: str, call: str = "c") -> Asked:
    return Asked("me", call, key)


def test_a_waiting_call_is_held_by_one_request_at_a_time() -> None:
    pending = Pending()
    assert pending.take("c") is None
    pending.leave(asked("k1"))
    pending.leave(asked("k2"))
    first, second = pending.take("c"), pending.take("c")
    assert first is not None
    assert second is not None
    assert (first.key, second.key) == ("k1", "k2")
    assert pending.take("c") is None
    pending.leave(second)
    assert pending.take_exactly("c", "k1") is None
    assert pending.take_exactly("c", "k2") == second


def test_waiting_calls_are_bounded() -> None:
    pending = Pending()
    for number in range(MOST + 10):
        pending.leave(asked(f"k{number}", f"c{number}"))
    assert pending.take("c0") is None
    assert pending.take(f"c{MOST + 9}") is not None


def test_calls_are_identical_by_caller_tool_and_arguments() -> None:
    one = identity("me", "mcp:t/x", {"a": 1, "b": 2})
    assert one == identity("me", "mcp:t/x", {"b": 2, "a": 1})
    others = [("you", "mcp:t/x", {"a": 1, "b": 2}), ("me", "mcp:t/y", {"a": 1, "b": 2}), ("me", "mcp:t/x", {"a": 1})]
    assert one not in {identity(*other) for other in others}


def test_a_state_ends_and_is_of_one_proxy_caller_and_call() -> None:
    now = [0.0]
    numbers = itertools.count(1)
    states = States(b"s" * 32, lambda: now[0], lifetime_s=10)

    def made() -> str:
        return states.make(asked("k"), f"n{next(numbers)}")

    assert states.redeem(made(), "me", "c") == "k"
    once = made()
    states.redeem(once, "me", "c")
    foreign = States(b"t" * 32, lambda: 0.0).make(asked("k"), "n")
    old = made()
    now[0] = 11.0
    for state, caller, call in (
        (once, "me", "c"), (made(), "you", "c"), (made(), "me", "d"), (foreign, "me", "c"), (old, "me", "c"),
    ):  # fmt: skip
        with pytest.raises(BadState):
            states.redeem(state, caller, call)
