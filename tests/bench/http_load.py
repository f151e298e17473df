"""Sends requests over keep-alive connections and says how long each took; a process of its own, so that it takes
nothing from the server. Prints one JSON object: seconds in all, and of each request."""

from __future__ import annotations

import asyncio
import json
import sys
import time


async def _drive(port: int, head: str, body: bytes, name: str, count: int, spent: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(count):
        text = head.replace("KEY", f"{name}-{number}").replace("LENGTH", str(len(body)))
        began = time.perf_counter()
        writer.write(text.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        spent.append(time.perf_counter() - began)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(answer.decode())
    writer.close()


async def _main(plan: dict[str, object]) -> None:
    spent: list[float] = []
    port, count, body = int(str(plan["port"])), int(str(plan["count"])), str(plan["body"]).encode()
    heads = [str(head) for head in plan["heads"]]  # type: ignore[attr-defined]
    began = time.perf_counter()
    await asyncio.gather(
        *(_drive(port, head, body, f"{plan['name']}-{n}", count, spent) for n, head in enumerate(heads))
    )
    print(json.dumps({"seconds": time.perf_counter() - began, "spent": spent}))


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.stdin.read())))
