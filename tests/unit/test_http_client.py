"""Requests to workers: which addresses are reached, what an answer may be, and what is known after a fault."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from controllers.runtime.clock import SystemClock
from controllers.web.addresses import AddressRefused, allowed, literal_problem
from controllers.web.client import HttpClient, StreamBroken
from controllers.web.reply import Fate, Limits, Reply
from tests.fakes.ports import free_port

PRIVATE = Limits(timeout_s=20, max_answer=2000, allow_private=True)


@contextmanager
def server(*answers: bytes | None) -> Iterator[tuple[int, list[bytes]]]:
    """A socket that gives each connection the next answer (None: never any); its port, and what it was asked."""
    asked: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        for answer in answers:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                asked.append(connection.recv(65_536))
                if answer is None:
                    over.wait(20)
                else:
                    connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1], asked
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def http(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers, b"", body]
    return b"\r\n".join(lines)


async def ask(url: str, limits: Limits = PRIVATE, *found: str) -> Reply:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return found or ["127.0.0.1"]

    client = HttpClient(SystemClock().monotonic, resolver=resolver)
    return await client.send("POST", url, {"X-Team": "web"}, b"{}", limits)


@pytest.mark.asyncio
async def test_an_answer_comes_back_whole() -> None:
    with server(http(b"fine", b"Retry-After: 7")) as (port, asked):
        reply = await ask(f"http://worker.example.com:{port}/runs?key=1")
    assert (reply.fate, reply.status, reply.data, reply.retry_after_s) == (Fate.ANSWERED, 200, b"fine", 7)
    text = asked[0].decode().lower()
    assert text.startswith("post /runs?key=1 http/1.1")
    assert f"host: worker.example.com:{port}" in text
    assert "accept-encoding: identity" in text
    assert "x-team: web" in text


@pytest.mark.asyncio
async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    with server(http(b"", b"Location: http://127.0.0.1:1/", status=b"302 Found")) as (port, asked):
        reply = await ask(f"http://127.0.0.1:{port}/")
    assert (reply.status, reply.location, len(asked)) == (302, "http://127.0.0.1:1/", 1)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (http(b"x" * 2001), "larger than 2000 bytes"),
        (http(b"\x1f\x8b", b"Content-Encoding: gzip"), "compressed"),
        (b"", "the connection broke"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "the connection broke"),
    ],
)
async def test_an_answer_that_cannot_be_read_leaves_it_uncertain(answer: bytes, why: str) -> None:
    with server(answer) as (port, _):
        reply = await ask(f"http://127.0.0.1:{port}/")
    assert reply.fate is Fate.UNCERTAIN
    assert why in reply.error


@pytest.mark.asyncio
async def test_silence_is_uncertain_and_a_closed_port_is_not() -> None:
    with server(None) as (port, _):
        reply = await ask(f"http://127.0.0.1:{port}/", Limits(0.3, 2000, True))
    assert (reply.fate, reply.error) == (Fate.UNCERTAIN, "no whole answer within 0.3 s")
    reply = await ask(f"http://127.0.0.1:{free_port()}/")
    assert reply.fate is Fate.NOT_SENT


@pytest.mark.asyncio
async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    """The name would resolve to another address if it were asked for again: it does not exist."""
    with server(http(b"fine")) as (port, _):
        reply = await ask(f"http://no-such-host.invalid:{port}/")
        assert reply.data == b"fine"


@pytest.mark.asyncio
async def test_one_forbidden_address_among_good_ones_refuses_the_host() -> None:
    reply = await ask("http://worker.example.com/", Limits(5, 2000, False), "93.184.216.34", "10.0.0.7")
    assert reply.fate is Fate.REFUSED
    assert "10.0.0.7" in reply.error
    assert "allowPrivate" in reply.error


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "::1", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::a00:1",
     "2002:7f00:1::", "100.64.0.1"],
)  # fmt: skip
async def test_private_addresses_are_reached_only_where_that_is_declared(address: str) -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return [address]

    with pytest.raises(AddressRefused, match="allowPrivate"):
        await allowed("w", 80, allow_private=False, resolver=resolver)
    assert await allowed("w", 80, allow_private=True, resolver=resolver) == [address]
    assert literal_problem(address, allow_private=False)


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0", "::", "::ffff:169.254.169.254"]
)
def test_addresses_that_no_worker_has_are_never_reached(address: str) -> None:
    assert "nothing is reached at" in literal_problem(address, allow_private=True)


def test_names_and_public_addresses_are_fine() -> None:
    assert literal_problem("worker.example.com", allow_private=False) == ""
    assert literal_problem("93.184.216.34", allow_private=False) == ""
    assert literal_problem("2606:2800:220:1:248:1893:25c8:1946", allow_private=False) == ""


@pytest.mark.asyncio
async def test_an_answer_can_be_read_as_it_comes_and_its_break_is_told() -> None:
    broken = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\none\ntwo"
    with server(http(b"no", b"Retry-After: 7", status=b"429 Busy"), broken) as (port, _):
        client = HttpClient(SystemClock().monotonic)
        url = f"http://127.0.0.1:{port}/logs"
        async with client.open(url, {}, silent_s=20, allow_private=True) as opened:
            assert (opened.status, opened.retry_after_s) == (429, 7)
        heard = []

        async def hear() -> None:
            async with client.open(url, {}, silent_s=20, allow_private=True) as opened:
                async for chunk in opened.chunks:
                    heard.append(chunk)

        with pytest.raises(StreamBroken, match="broke off"):
            await hear()
        assert b"".join(heard) == b"one\ntwo"
    with pytest.raises(StreamBroken, match="no connection"):
        async with client.open(f"http://127.0.0.1:{free_port()}/", {}, silent_s=20, allow_private=True):
            pass
    with pytest.raises(StreamBroken):
        async with client.open(url, {}, silent_s=20, allow_private=False):
            pass
