"""Clients of an event stream, in a process of their own. Reads one JSON object: ``port`` and ``path``, how many clients
there are (``all``, ``other`` of one namespace only, ``stuck`` that never read) and how many events each is to get. With
``ahead`` it prints ``{}`` and waits for a line before those that read connect. Prints ``{}`` when all are, and at the
end what arrived: counts, and how late the events of some clients were."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from typing import Any

_AT_ONCE = 50
_SAMPLES = 20
_LOG, _TIME, _HELLO = b"\nevent: log", b'"t":', b"event: hello"
_OTHER = b'"involvedObject":{"kind":"Mission","namespace":"other"'


class Client(asyncio.Protocol):
    """Counts what comes; ``sample`` also reads when it was sent."""

    def __init__(self, port: int, path: str, query: str, wanted: int, sample: bool) -> None:
        self._head = f"GET {path}?kpi=0{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
        self._wanted = wanted
        self._sample = sample
        self._rest = b""
        self.late: list[float] = []
        self.count = self.others = 0
        self.connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        whole = self._rest + data
        if not self.connected.done() and _HELLO in whole:
            self.connected.set_result(None)
        cut = whole.rfind(b"\n") + 1  # a line that is cut in two is counted with its second part
        lines, self._rest = whole[:cut], b"\n" + whole[cut:]
        self.count += lines.count(_LOG + b"\n") + lines.count(_LOG + b"\r")
        self.others += lines.count(_OTHER)
        if self._sample:
            now, at = time.monotonic(), lines.find(_TIME)
            while at >= 0:
                self.late.append(now - float(lines[at + len(_TIME) :].partition(b",")[0].partition(b"}")[0]))
                at = lines.find(_TIME, at + 1)
        if self.count >= self._wanted and not self.done.done():
            self.done.set_result(None)


async def _stuck(port: int, path: str) -> socket.socket:
    """A client that asks and never reads."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", port))
    await loop.sock_sendall(sock, f"GET {path}?kpi=0 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    return sock


async def _main(plan: dict[str, Any]) -> None:
    loop, port, path = asyncio.get_running_loop(), plan["port"], plan["path"]
    count = plan["all"] + plan["other"]
    each = max(1, count // _SAMPLES)
    clients = [
        Client(port, path, "" if n < plan["all"] else "&namespaces=other",
               plan["events" if n < plan["all"] else "others"], n % each == 0)
        for n in range(count)
    ]  # fmt: skip
    stuck = [await _stuck(port, path) for _ in range(plan["stuck"])]
    if plan["ahead"]:
        print("{}", flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
    transports: list[asyncio.BaseTransport] = []
    for begin in range(0, count, _AT_ONCE):
        some = clients[begin : begin + _AT_ONCE]
        for client in some:
            transports.append((await loop.create_connection(lambda c=client: c, "127.0.0.1", port))[0])  # type: ignore[misc]
        await asyncio.gather(*(client.connected for client in some))
    print("{}", flush=True)
    await asyncio.wait([client.done for client in clients], timeout=plan["within_s"])
    everything, others = clients[: plan["all"]], clients[plan["all"] :]
    print(json.dumps({
        "delivered": sum(c.count for c in clients),
        "exact": all(c.count == plan["events"] for c in everything) and all(c.count == plan["others"] for c in others),
        "leaked": sum(c.count - c.others for c in others),
        "late": [moment for c in clients for moment in c.late],
    }), flush=True)  # fmt: skip
    await loop.run_in_executor(None, sys.stdin.readline)
    for transport in transports:
        transport.close()
    for sock in stuck:
        sock.close()


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.stdin.readline())))
