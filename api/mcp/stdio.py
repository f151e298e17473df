"""A tool server as a program: MCP messages by line on its standard input and output.

Beside the SDK's own: the environment is exactly what is given, a line has a largest size, what it writes to standard
error is read and forgotten but for its end, and nothing of it is logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client._transport import TransportStreams
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from controllers.runtime.clock import Clock, wait_for_any
from controllers.status.redaction import redact

GRACE_S = 2.0
"""How long a program has to leave after its input was closed, and after each signal."""
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TAIL = 2000


@dataclass(frozen=True, slots=True)
class Program:
    """What is started. ``environment`` is the whole of it."""

    argv: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    workdir: Path


def environment(path: str | None, home: str | None, declared: Mapping[str, str]) -> dict[str, str]:
    """A small fixed environment, and over it what is declared. Nothing of the proxy's own but PATH and HOME: tokens of
    the run do not reach the server."""
    fixed = {"PATH": path or SYSTEM_PATH, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
    if home:
        fixed["HOME"] = home
    return {**fixed, **declared}


@dataclass(slots=True)
class Trace:
    """How the program ended, for the operator."""

    code: int | None = None
    tail: bytes = b""

    def words(self) -> str:
        """Its exit and the end of its standard error, redacted and in one line."""
        text = self.tail.decode("utf-8", "replace")
        last = " ".join(redact(text).split())[-300:]
        ended = "is gone" if self.code is None else f"ended with {self.code}"
        return f"{ended}: {last}" if last else ended


@asynccontextmanager
async def talk(program: Program, clock: Clock, *, most: int, trace: Trace) -> AsyncIterator[TransportStreams]:
    """Start the program and exchange messages with it; a line of more than ``most`` bytes, or one that is no message,
    ends the exchange. On leaving, the program and all it started are gone. Raises OSError where it cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        *program.argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(program.environment),
        cwd=program.workdir,
        start_new_session=True,
        limit=most,
    )
    to_us, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, from_us = anyio.create_memory_object_stream[SessionMessage](0)
    tasks = [
        asyncio.create_task(_read(process, to_us), name="mcp-stdio-read"),
        asyncio.create_task(_write(process, from_us, to_us), name="mcp-stdio-write"),
        asyncio.create_task(_listen(process, trace), name="mcp-stdio-errors"),
    ]
    try:
        yield incoming, outgoing
    finally:
        incoming.close()
        outgoing.close()
        stopping = asyncio.ensure_future(_stop(process, tasks, clock, trace))
        # Being canceled once more must not leave the program behind.
        while not stopping.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(stopping)
        for stream in (to_us, from_us):
            stream.close()


async def _read(process: asyncio.subprocess.Process, to_us: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
    assert process.stdout is not None
    async with to_us:
        while True:
            try:
                line = await process.stdout.readuntil(b"\n")
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
                return
            if not line.strip():
                continue
            try:
                message = jsonrpc_message_adapter.validate_json(line, by_name=False)
            except (ValueError, RecursionError):
                return  # a server that writes something else there cannot be followed any more
            try:
                await to_us.send(SessionMessage(message))
            except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                return


async def _write(
    process: asyncio.subprocess.Process,
    from_us: MemoryObjectReceiveStream[SessionMessage],
    to_us: MemoryObjectSendStream[SessionMessage | Exception],
) -> None:
    assert process.stdin is not None
    async with from_us:
        async for item in from_us:
            data = item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
            try:
                process.stdin.write(data)
                await process.stdin.drain()
            except OSError:
                to_us.close()  # the other side sees the end instead of waiting for an answer
                return


async def _listen(process: asyncio.subprocess.Process, trace: Trace) -> None:
    assert process.stderr is not None
    while True:
        try:
            data = await process.stderr.read(65_536)
        except OSError:
            return
        if not data:
            return
        trace.tail = (trace.tail + data)[-_TAIL:]


async def _stop(
    process: asyncio.subprocess.Process, tasks: list[asyncio.Task[None]], clock: Clock, trace: Trace
) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    ended = asyncio.Event()
    watch = asyncio.ensure_future(process.wait())
    watch.add_done_callback(lambda _: ended.set())
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        if number is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
        if await wait_for_any(clock, GRACE_S, ended):
            break
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # what it started, and left behind in its group
    trace.code = process.returncode
    for task in [*tasks, watch]:
        task.cancel()
    await asyncio.gather(*tasks, watch, return_exceptions=True)
    transport = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()  # a grandchild may still hold the pipes
