"""How a declared tool server is reached: its program or its address, with the secrets that the spec names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from mcp.client._transport import TransportStreams
from mcp.client.streamable_http import streamable_http_client

from api.mcp import stdio
from api.mcp.addresses import GuardedTransport, Resolve, system_resolve
from api.mcp.upstream import Upstream
from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock
from controllers.secrets.source import SecretMissing, SecretSource
from schemas.base import DEFAULT_NAMESPACE
from schemas.secret import ValueFrom
from schemas.tool_server import HttpServer, StdioServer, ToolServerSpec

CONNECT_S = 10.0
_SPARE = 1024 * 1024
"""A message may be this much larger than the largest result: what is around it, and the listing of tools."""


@dataclass(frozen=True, slots=True)
class Openers:
    """Makes connections for one machine. ``environ`` gives PATH and HOME to programs, and nothing else; ``root`` is the
    folder that relative paths, also those of secrets, count from. ``say`` tells the operator what went wrong."""

    secrets: SecretSource
    root: Path
    environ: Mapping[str, str] = field(repr=False)
    clock: Clock
    blocking: Blocking
    say: Callable[[str], None]
    resolve: Resolve = system_resolve

    def upstream(self, name: str, namespace: str, spec: ToolServerSpec) -> Upstream:
        """A connection to a ToolServer, not yet made."""
        granted = self.secrets.of(namespace or DEFAULT_NAMESPACE)
        most = spec.max_result_kilobytes * 1024 + _SPARE
        if spec.stdio is not None:
            program, trace = spec.stdio, stdio.Trace()

            @asynccontextmanager
            async def started() -> AsyncIterator[TransportStreams]:
                trace.code, trace.tail = None, b""
                made = await self.blocking.run(self._program, program, granted)
                async with stdio.talk(made, self.clock, most=most, trace=trace) as streams:
                    yield streams

            return Upstream(name, started, self.clock, how_it_ended=trace.words, say=self.say)
        assert spec.http is not None
        server = spec.http

        @asynccontextmanager
        async def connected() -> AsyncIterator[TransportStreams]:
            headers = await self.blocking.run(self._headers, server, granted)
            guard = GuardedTransport(httpx2.URL(server.url), server.network, most=most, resolve=self.resolve)
            timeout = httpx2.Timeout(CONNECT_S, read=spec.call_timeout.total_seconds() + CONNECT_S)
            client = httpx2.AsyncClient(
                transport=guard, headers=headers, timeout=timeout, trust_env=False, follow_redirects=False
            )
            async with client, streamable_http_client(server.url, http_client=client) as streams:
                yield streams

        return Upstream(name, connected, self.clock, say=self.say)

    def _program(self, server: StdioServer, secrets: SecretSource) -> stdio.Program:
        declared = {
            variable.name: variable.value or ""
            if variable.value_from is None
            else self._secret(variable.value_from, secrets, f"the variable {variable.name}")
            for variable in server.env
        }
        made = stdio.environment(self.environ.get("PATH"), self.environ.get("HOME"), declared)
        return stdio.Program(server.argv, made, self.root / (server.workdir or ""))

    def _headers(self, server: HttpServer, secrets: SecretSource) -> dict[str, str]:
        made = {}
        for header in server.headers:
            value = header.value or ""
            if header.value_from is not None:
                value = header.prefix + self._secret(header.value_from, secrets, f"the header {header.name}")
            if not value.isascii() or not value.isprintable():
                raise SecretMissing(f"the header {header.name} has no value that a header can have")
            made[header.name] = value
        return made

    def _secret(self, reference: ValueFrom, secrets: SecretSource, what: str) -> str:
        try:
            value = secrets.resolve(reference, self.root)
        except SecretMissing as missing:
            raise SecretMissing(f"{what} has no value: {missing}") from None
        if "\0" in value:
            raise SecretMissing(f"{what} has no value: what its reference names holds a NUL byte")
        return value
