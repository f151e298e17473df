"""Accepting the tools of MCP servers: pin."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import common, completion, mcp_servers
from cli.failures import Failure
from schemas.base import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from schemas.resource import Resource
    from schemas.tool_server import ToolServerStatus


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("pin")(pin)


def pin(
    context: typer.Context,
    server: Annotated[
        str,
        typer.Argument(help="Name of the ToolServer.", metavar="SERVER", autocompletion=completion.of("toolserver")),
    ],
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
    mcp_servers.need_sdk()
    from api.mcp import serve
    from api.mcp.upstream import ServerFault
    from controllers.runtime.blocking import ThreadBlocking
    from controllers.runtime.clock import SystemClock
    from decisions import tools
    from schemas.tool_server import ToolServerSpec, ToolServerStatus

    clock, blocking = SystemClock(), ThreadBlocking(2, name="remit-mcp")
    spec, status = ToolServerSpec.model_validate(server.spec), ToolServerStatus.model_validate(server.status)
    made = mcp_servers.openers(*mcp_servers.project_secrets(context, clock), clock, blocking)
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
