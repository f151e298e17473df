"""The lane beside HTTP takes what nobody could read in two ways, and nothing else."""

from __future__ import annotations

import pytest

from api.lane import MOST_BODY, MOST_HEAD, UNFINISHED, read

LINE = b"POST /agent/v1/authorize HTTP/1.1"
HEAD = LINE + b"\r\nHost: 127.0.0.1:8420\r\nAuthorization: Bearer t\r\nContent-Type: application/json\r\n"


def request(body: bytes = b"{}", *more: bytes) -> bytes:
    return HEAD + b"".join(line + b"\r\n" for line in (*more, b"Content-Length: %d" % len(body))) + b"\r\n" + body


def test_a_whole_plain_request_is_read() -> None:
    found = read(request(b'{"a":1}', b"X-Any:  two words "), LINE)
    assert isinstance(found, tuple)
    headers, body = found
    assert body == b'{"a":1}'
    assert headers == {
        b"host": b"127.0.0.1:8420",
        b"authorization": b"Bearer t",
        b"content-type": b"application/json",
        b"x-any": b"two words",
        b"content-length": b"7",
    }


@pytest.mark.parametrize("missing", [1, 7])
def test_a_request_whose_body_is_not_complete_is_waited_for(missing: int) -> None:
    assert read(request(b'{"a":1}')[:-missing], LINE) is UNFINISHED


@pytest.mark.parametrize(
    "data",
    [
        b"",
        LINE,
        LINE + b"\r\n",
        HEAD,
        request().replace(b"HTTP/1.1", b"HTTP/1.0"),
        request().replace(b"/authorize ", b"/authorize?x=1 "),
        request().replace(b"POST", b"PUT"),
        request().replace(b"\r\n", b"\n"),
        request() + b"P",
        request(b"{}", b"Content-Length: 2"),
        request(b"{}", b"Host: other"),
        request(b"{}", b"Authorization: Bearer u"),
        request(b"{}", b"Transfer-Encoding: chunked"),
        request(b"{}", b"Content-Encoding: gzip"),
        request(b"{}", b"Expect: 100-continue"),
        request(b"{}", b"Upgrade: websocket"),
        request(b"{}", b"Connection: close"),
        request(b"{}", b"X Y: no name"),
        request(b"{}", b" X: folded"),
        request(b"{}", b"no colon"),
        request(b"{}", b": no name"),
        request(b"{}", b"X: a\rb"),
        request(b"{}", b"X: a\0b"),
        request(b"{}", b"X: \xff"),
        request(b"{}", b"X: a\tb"),
        request(b"{}", b"X: " + b"a" * MOST_HEAD),
        request(b" " * (MOST_BODY + 1)),
        request().replace(b"Host: 127.0.0.1:8420\r\n", b""),
        request().replace(b"Content-Length: 2", b"Content-Length: +2"),
        request().replace(b"Content-Length: 2", b"Content-Length: 2, 2"),
        request().replace(b"Content-Length: 2", b"Content-Length: "),
        request().replace(b"Content-Length: 2\r\n", b""),
        request().replace(b"Content-Length: 2", b"Content-Length: 00000002"),
    ],
)
def test_anything_else_goes_the_ordinary_way(data: bytes) -> None:
    assert read(data, LINE) is None
