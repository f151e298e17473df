"""MCP servers through the gate: mcp-proxy."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import common, completion, mcp_servers
from cli.failures import Exit, Failure
from schemas.base import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from api.mcp.serve import Place
    from controllers.secrets.source import SecretSource

_SERVER = typer.Argument(help="Name of the ToolServer.", metavar="SERVER", autocompletion=completion.of("toolserver"))
URL, TOKEN = "REMIT_URL", "REMIT_TOKEN"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("mcp-proxy")(mcp_proxy)


def mcp_proxy(
    context: typer.Context,
    server: Annotated[str, _SERVER],
    http: Annotated[
        str, typer.Option("--http", help="PORT or HOST:PORT to serve many runs on, instead of standard input.")
    ] = "",
    url: Annotated[str, typer.Option("--url", help=f"Address of the agent protocol; else {URL}.")] = "",
    hosts: Annotated[
        list[str] | None, typer.Option("--host-name", help="With --http: a name it answers to beside localhost.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="With --http beyond this machine: file with a token of the proxy's own."),
    ] = None,
    approval_url: Annotated[
        str, typer.Option("--approval-url", help="Page where people answer, with {request} for its name.")
    ] = "",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Serve the tools of a ToolServer to agents; each call is put before the gate first.

    On standard input and output it serves the run that it is part of, so an agent starts it as its MCP server. With
    --http it serves every run that comes with its token, and holds the server's secrets where no agent can reach them.

    Examples:
      remit mcp-proxy tickets
      remit mcp-proxy tickets --http 8431
    """
    if approval_url and not approval_url.startswith(("https://", "http://")):
        raise Failure("--approval-url takes an address such as https://approvals.example.org/{request}")
    engine = url or os.environ.get(URL, "")
    if not engine:
        raise Failure(
            f"there is no engine to ask: {URL} is not set",
            "an agent that Remit started has it; elsewhere name the engine's agentListen with --url",
            hint="remit mcp-proxy --help",
        )
    mcp_servers.need_sdk()
    if http:
        place = _place(http, tuple(hosts or ()), token_file)
        raise typer.Exit(asyncio.run(_on_port(context, server, engine, place, approval_url, namespace)))
    token = os.environ.get(TOKEN, "")
    if not token or not all("!" <= c <= "~" for c in token):
        raise Failure(
            f"there is no run to serve: {TOKEN} is not set",
            "this form is started by an agent that Remit started; to serve many runs use --http",
            hint="remit mcp-proxy --help",
        )
    asyncio.run(_on_stdio(server, engine, token, approval_url, namespace))


def _place(text: str, hosts: tuple[str, ...], token_file: Path | None) -> Place:
    from api.hosts import is_loopback
    from api.mcp.serve import Place

    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise Failure(f"--http {text[:60]!r}: write PORT or HOST:PORT, such as 8431 or 127.0.0.1:8431")
    token = ""
    if token_file is not None:
        try:
            token = token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise Failure(f"--token-file {token_file} cannot be read: {reason}") from None
        if len(token) < 16 or not all("!" <= c <= "~" for c in token):
            raise Failure(f"--token-file {token_file}: a token has at least 16 printable characters and no spaces")
    if not is_loopback(host) and not token:
        raise Failure(
            f"--http {text[:60]} can be reached from other machines",
            "give the proxy a token of its own: --token-file FILE, which clients send as X-Remit-Proxy-Token",
            "and put TLS before it: tokens of runs travel in every request",
        )
    return Place(host, int(port), (*hosts, *(() if is_loopback(host) else (host,))), token)


async def _on_stdio(server: str, url: str, token: str, approval_url: str, namespace: str) -> None:
    import secrets
    import uuid

    from api.mcp import serve
    from api.mcp.engine import Engine
    from api.mcp.proxy import Options
    from cli.version import __version__
    from controllers.runtime.blocking import ThreadBlocking
    from controllers.runtime.clock import SystemClock
    from controllers.secrets.keeper import local_secrets

    clock, blocking = SystemClock(), ThreadBlocking(2, name="remit-mcp")
    # What the run itself holds is all that its own proxy can use; whose it is was settled when the run was given it.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("REMIT_")}
    made = mcp_servers.openers(_OfTheRun(local_secrets(variables)), Path.cwd(), variables, clock, blocking)
    try:
        async with Engine(url, clock) as engine:
            await serve.on_stdio(
                Options(server, __version__, approval_url), engine, made, clock, token=token, namespace=namespace,
                new_key=lambda: uuid.uuid4().hex, secret=secrets.token_bytes(32),
            )  # fmt: skip
    finally:
        blocking.close(wait=False)


class _OfTheRun:
    """Secrets of one run, in whatever namespace it is."""

    def __init__(self, inner: SecretSource) -> None:
        self._inner = inner

    def resolve(self, reference: Any, project_root: Path) -> str:
        """See SecretSource."""
        return self._inner.resolve(reference, project_root)

    def check(self, reference: Any, project_root: Path) -> None:
        """See SecretSource."""
        self._inner.check(reference, project_root)

    def of(self, *_: str) -> SecretSource:
        """See SecretSource."""
        return self


async def _on_port(
    context: typer.Context, server: str, url: str, place: Place, approval_url: str, namespace: str
) -> int:
    import secrets
    import uuid

    from api.mcp import serve
    from api.mcp.engine import Engine
    from api.mcp.proxy import Options
    from cli.version import __version__
    from controllers.runtime.blocking import ThreadBlocking
    from controllers.runtime.clock import SystemClock
    from controllers.runtime.signals import drain_on_signal
    from schemas.errors import Stalled

    clock, blocking = SystemClock(), ThreadBlocking(4, name="remit-mcp")
    made = mcp_servers.openers(*mcp_servers.project_secrets(context, clock), clock, blocking)
    stop = asyncio.Event()
    try:
        with drain_on_signal(stop):
            async with Engine(url, clock) as engine:
                await serve.on_port(
                    Options(server, __version__, approval_url, namespace), engine, made, clock, place, stop,
                    namespace=namespace, new_key=lambda: uuid.uuid4().hex, secret=secrets.token_bytes(32),
                    ready=lambda address: mcp_servers.say(f"serves {server} on {address}"),
                )  # fmt: skip
    except Stalled as error:
        raise Failure(str(error)) from None
    finally:
        blocking.close(wait=False)
    return int(Exit.OK)
