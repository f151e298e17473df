"""Viewers of a page, in a process of their own: each holds a stream and asks for the page again when something
happened, as the script of the page does, every 0.4 s in the long run. Reads one JSON object: ``port``, ``path`` and how
many ``viewers``. Prints ``{}`` when all are connected and have the page; told by a line to end, it prints how often the
page was asked for, and how often it was another one."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from typing import Any

from api.stream.events import PATH as STREAM

_AT_ONCE = 10
_LEAST_S = 0.4
_LOG = b"\nevent: log"


class Viewer:
    """One browser: a connection that is kept for pages, and one for the stream."""

    def __init__(self, port: int, path: str) -> None:
        self._port = port
        self._path = path
        self._tag = ""
        self._looked_at = deque([float("-inf")] * 2, 2)
        self._news = asyncio.Event()
        self._kept: tuple[asyncio.StreamWriter, ...] = ()
        self.asked = self.fresh = 0

    async def look(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Ask for the page, and read it."""
        tag = f"If-None-Match: {self._tag}\r\n" if self._tag else ""
        writer.write(
            f"GET {self._path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAccept-Encoding: gzip\r\n{tag}\r\n".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.split(": ", 1) for line in head.lower().split("\r\n")[1:] if line)
        await reader.readexactly(int(fields.get("content-length", "0")))
        assert head.split()[1] in ("200", "304"), head
        self.asked += 1
        self.fresh += head.split()[1] == "200"
        self._tag = fields["etag"]
        self._looked_at.append(asyncio.get_running_loop().time())

    async def connect(self) -> asyncio.Task[None]:
        """Have the page and the stream; the task follows what happens."""
        page = await asyncio.open_connection("127.0.0.1", self._port)
        await self.look(*page)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(f"GET {STREAM}?kpi=0 HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n\r\n".encode())
        await reader.readuntil(b"event: hello")
        self._kept = (page[1], writer)  # one that nobody holds is closed
        return asyncio.create_task(self._live(reader, *page))

    async def _live(
        self, stream: asyncio.StreamReader, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(self._follow(reader, writer))
            while data := await stream.read(65_536):
                if _LOG in data:
                    self._news.set()
            looking.cancel()

    async def _follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._news.wait()
            left = self._looked_at[0] + 2 * _LEAST_S - asyncio.get_running_loop().time()
            await asyncio.sleep(left)  # noqa: TID251 - real time is measured
            self._news.clear()
            await self.look(reader, writer)


async def _main(plan: dict[str, Any]) -> None:
    viewers = [Viewer(plan["port"], plan["path"]) for _ in range(plan["viewers"])]
    tasks = []
    for begin in range(0, len(viewers), _AT_ONCE):
        tasks += await asyncio.gather(*(viewer.connect() for viewer in viewers[begin : begin + _AT_ONCE]))
    print("{}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    print(json.dumps({"asked": sum(v.asked for v in viewers), "fresh": sum(v.fresh for v in viewers)}), flush=True)
    for task in tasks:
        if task.done():
            task.result()
        task.cancel()


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.stdin.readline())))
