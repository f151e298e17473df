"""MCP servers through the gate: mcp-proxy, and pin, which accepts their tools."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import common, completion
from cli.failures import Exit, Failure
from schemas.base import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from api.mcp.openers import Openers
    from api.mcp.serve import Place
    from controllers.secrets.source import SecretSource
    from schemas.resource import Resource
    from schemas.tool_server import ToolServerStatus

_SERVER = typer.Argument(help="Name of the ToolServer.", metavar="SERVER", autocompletion=completion.of("toolserver"))
URL, TOKEN = "REMIT_URL", "REMIT_TOKEN"


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("mcp-proxy")(mcp_proxy)
    app.command("pin")(pin)


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
    _need_sdk()
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


def _need_sdk() -> None:
    from importlib.util import find_spec

    if find_spec("mcp") is None:
        raise Failure("the MCP SDK is not installed", "pip install 'remit[mcp]'")


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


def _say(text: str) -> None:
    from cli.output import safe

    sys.stderr.write(safe(f"remit mcp-proxy: {text}") + "\n")
    sys.stderr.flush()


def _openers(secrets: SecretSource, root: Path, variables: dict[str, str], clock: Any, blocking: Any) -> Openers:
    from api.mcp.openers import Openers

    return Openers(secrets, root, variables, clock, blocking, _say)


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
    made = _openers(_OfTheRun(local_secrets(variables)), Path.cwd(), variables, clock, blocking)
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
    made = _openers(*_project_secrets(context, clock), clock, blocking)
    stop = asyncio.Event()
    try:
        with drain_on_signal(stop):
            async with Engine(url, clock) as engine:
                await serve.on_port(
                    Options(server, __version__, approval_url), engine, made, clock, place, stop,
                    namespace=namespace, new_key=lambda: uuid.uuid4().hex, secret=secrets.token_bytes(32),
                    ready=lambda address: _say(f"serves {server} on {address}"),
                )  # fmt: skip
    except Stalled as error:
        raise Failure(str(error)) from None
    finally:
        blocking.close(wait=False)
    return int(Exit.OK)


def _project_secrets(context: typer.Context, clock: Any) -> tuple[SecretSource, Path, dict[str, str]]:
    """Secrets as the project here says who may use them."""
    from cli.project import CONFIG_NAME, STATE_NAME, locate
    from controllers.secrets.keeper import make_keeper
    from schemas.secrets_config import SecretsConfig

    root: Path = (context.find_root().obj or Path.cwd()).absolute()
    named = any((folder / CONFIG_NAME).is_file() for folder in (root, root / STATE_NAME))
    config = locate(root).config.secrets if named else SecretsConfig()
    variables = {name: value for name, value in os.environ.items() if not name.startswith("REMIT_")}
    keeper = make_keeper(
        config, project=root, closed=(root / STATE_NAME,), variables=variables, now=clock.now,
        monotonic=clock.monotonic,
    )  # fmt: skip
    return keeper, root, variables


# Accepting tools.


def pin(
    context: typer.Context,
    server: Annotated[str, _SERVER],
    tools: Annotated[list[str] | None, typer.Argument(help="Tools to accept; none shows what waits.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Accept every tool as it is now.")] = False,
    look: Annotated[
        bool, typer.Option("--look", help="Ask the server itself, from here, instead of what a proxy saw last.")
    ] = False,
    reason: common.Reason = "",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Accept tools of a ToolServer: writes the digests of their definitions into spec.pins, where that is declared.

    Without tools, shows the definition of each one that waits. A definition that changes afterwards is quarantined
    until it is accepted too.

    Examples:
      remit pin tickets
      remit pin tickets search comment --reason "read them"
      remit pin tickets --look --all
    """
    from schemas.base import Key
    from schemas.tool_server import ToolServerStatus

    with common.store_of(context) as store:
        key = common.key_named(server, namespace, default_kind="toolserver")
        if key.kind != "ToolServer":
            raise Failure(f"{key.short} is no tool server")
        with store.snapshot() as snapshot:
            found = common.object_named(snapshot, Key(key.kind, key.namespace, key.name))
        status = _looked(context, found) if look else ToolServerStatus.model_validate(found.status)
        if not tools and not all_:
            _show(found, status)
            return
        _accept(context, store, found, status, tools or [], reason, every=all_)


def _looked(context: typer.Context, server: Resource) -> ToolServerStatus:
    """The status as it would be after a proxy looked now. Changes nothing."""
    _need_sdk()
    from api.mcp import serve
    from api.mcp.upstream import ServerFault
    from controllers.runtime.blocking import ThreadBlocking
    from controllers.runtime.clock import SystemClock
    from decisions import tools
    from schemas.tool_server import ToolServerSpec, ToolServerStatus

    clock, blocking = SystemClock(), ThreadBlocking(2, name="remit-mcp")
    spec, status = ToolServerSpec.model_validate(server.spec), ToolServerStatus.model_validate(server.status)
    made = _openers(*_project_secrets(context, clock), clock, blocking)
    try:
        offered = asyncio.run(serve.offered(server.name, spec, made, server.namespace))
    except ServerFault as error:
        raise Failure(str(error)) from None
    finally:
        blocking.close(wait=False)
    seen = tools.judged(tools.seen(status.tools, offered, clock.now()), spec.pins)
    return status.model_copy(update={"tools": seen, "last_seen": clock.now()})


def _show(server: Resource, status: ToolServerStatus) -> None:
    import json

    from cli.output import safe
    from decisions.tools import QUARANTINED

    if status.last_seen is None:
        print(f"no proxy has told yet what {server.name} offers; to ask it from here: remit pin {server.name} --look")
        return
    waiting = [tool for tool in status.tools if tool.state in QUARANTINED]
    for tool in waiting:
        changed = f": {', '.join(tool.changed)}" if tool.changed else ""
        print(safe(f"{tool.name}  {tool.state}{changed}  {tool.digest}"))
        text = json.dumps(tool.definition, indent=2, ensure_ascii=False) if tool.definition else ""
        for line in text.splitlines() or ["(too large to show; see remit pin --look)"]:
            print(safe(f"  {line}"))
    accepted = len(status.tools) - len(waiting)
    if waiting:
        print(f"{len(waiting)} wait, {accepted} accepted; to accept: remit pin {server.name} TOOL ... or --all")
    else:
        print(f"all of its {accepted} tools are accepted")


def _accept(
    context: typer.Context, store: Any, server: Resource, status: ToolServerStatus, names: list[str], reason: str, *,
    every: bool,
) -> None:  # fmt: skip
    from cli import declared

    seen = {tool.name: tool.digest for tool in status.tools if tool.digest}
    wanted = sorted(seen) if every else list(dict.fromkeys(names))
    missing = [name for name in wanted if name not in seen]
    if missing or not wanted:
        listed = ", ".join(sorted(seen)[:20]) or "nothing yet"
        raise Failure(
            f"{server.name} offers no tool {missing[0][:80]!r}" if missing else f"{server.name} offers no tools",
            f"seen: {listed}",
            hint=f"remit pin {server.name} --look",
        )
    pins = {pin["tool"]: pin["digest"] for pin in server.spec.get("pins", ())}
    new = {**pins, **{name: seen[name] for name in wanted}}
    if new == pins:
        print(f"{server.key.short} stays as it is: these definitions are accepted")
        return
    value = [{"tool": name, "digest": digest} for name, digest in sorted(new.items())]
    what = ", ".join(name for name in wanted if pins.get(name) != seen[name])
    message = f"Accept tools of {server.key.short}: {what}"[:200] + (f"\n\n{reason}" if reason else "")
    done = declared.change(common.project_of(context), store, server, [(("spec", "pins"), value)], message)
    print(f"accepted for {server.key.short}: {what}; changed in {done.where}")
