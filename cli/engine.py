"""Running the engine and asking it to look now: run, sync."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import common
from cli.failures import Exit, Failure

if TYPE_CHECKING:
    from cli.printer import Printer
    from cli.project import Project
    from store.contract import Snapshot

_SYNC_WAIT_S = 60.0
_LAST_WORDS_S = 2.0
"""How long the end of `run` waits for whoever reads its account."""


def register(app: typer.Typer) -> None:
    """Add the verbs of this group."""
    app.command("run")(run)
    app.command("sync")(sync)


def run(
    context: typer.Context,
    demo: Annotated[bool, typer.Option("--demo", help="Make a demo project under .remit/ and run that.")] = False,
    store: Annotated[str | None, typer.Option("--store", help="sqlite:///PATH")] = None,
    agent_listen: Annotated[str | None, typer.Option("--agent-listen", help="Address of the agent protocol.")] = None,
    listen: Annotated[str | None, typer.Option("--listen", help="Address of the read API and dashboard.")] = None,
    profile: Annotated[str | None, typer.Option("--profile", help="Workstation, Standalone or Vps.")] = None,
    source_url: Annotated[str | None, typer.Option("--source-git-url", help="Repository of specs.")] = None,
    source_ref: Annotated[str | None, typer.Option("--source-git-ref", help="Branch, tag or full ref.")] = None,
    source_path: Annotated[str | None, typer.Option("--source-git-path", help="Folder in the repository.")] = None,
    source_directory: Annotated[str | None, typer.Option("--source-directory-path", help="Folder of specs.")] = None,
    quiet: common.Quiet = False,
) -> None:
    """Run the engine: follow the specs, dispatch missions, record what happens. Ctrl-C drains and ends it.

    Agents that are at work when the engine ends go on; the next start takes their results.
    """
    from cli.printer import Printer
    from cli.project import locate

    root: Path | None = context.find_root().obj
    if demo:
        from cli.starter import make_demo

        make_demo((root or Path.cwd()).absolute())
    flags = {
        ("store",): store,
        ("agentListen",): agent_listen,
        ("listen",): listen,
        ("profile",): profile,
        ("source", "git", "url"): source_url,
        ("source", "git", "ref"): source_ref,
        ("source", "git", "path"): source_path,
        ("source", "directory", "path"): source_directory,
    }
    project = locate(root, {keys: value for keys, value in flags.items() if value is not None})
    printer = None if quiet else Printer(sys.stdout)
    code = asyncio.run(_run(project, printer))
    if printer is not None and not printer.close(_LAST_WORDS_S):
        os._exit(code)
    raise typer.Exit(code)


async def _run(project: Project, printer: Printer | None) -> int:
    from api.agents.app import create_app
    from api.server import HttpServer
    from cli.account import Account
    from controllers.runtime.blocking import ThreadBlocking
    from controllers.runtime.signals import drain_on_signal
    from controllers.wiring import Engine, Place

    stop = asyncio.Event()
    host, _, port = project.config.agent_listen.rpartition(":")
    engine = Engine(
        project.config,
        Place(project.root, project.state),
        agent_url=lambda: server.url,
        environment=dict(os.environ),
    )
    threads = ThreadBlocking(4, name="remit-agents")
    try:
        app = create_app(
            engine.store, engine.tokens, clock=engine.clock, blocking=threads, state_dir=project.state,
            hosts=[host.strip("[]")], worker_token=engine.worker_token,
        )  # fmt: skip
        server = HttpServer(app, host.strip("[]"), int(port), setting="agentListen", on_stop=app.state.close)
        server.bind()
        engine.add("agent-server", server.run)
        account = None
        if printer is not None:
            account = Account(engine.store, project, engine.clock, engine.blocking, printer=printer)
            engine.add("account", account.run)
        with drain_on_signal(stop) as received:
            report = await engine.run(stop)
        if account is not None:
            account.end(report.cancelled)
        if report.stuck:
            if printer is not None:
                printer.close(_LAST_WORDS_S)
            os._exit(int(Exit.ERROR))
        return 0 if not received.numbers or report.clean else int(Exit.ERROR)
    finally:
        threads.close(wait=False)
        engine.close()


def sync(
    context: typer.Context,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Ask for it and go on.")] = False,
    timeout: common.Timeout = "60s",
) -> None:
    """Have the engine look at its source now, and say how it went; exit 1 when something is not in force."""
    from dataclasses import replace

    from cli.project import me
    from controllers.runtime.clock import SystemClock
    from controllers.wiring import DEFAULT_SOURCE
    from schemas.quantities import format_time
    from schemas.resource import RECONCILE_REQUESTED_AT, Declared

    token = f"{format_time(SystemClock().now())}-{os.getpid()}"
    with common.store_of(context) as store:
        with store.transaction(me()) as tx:
            source = tx.get(DEFAULT_SOURCE)
            if source is None:
                raise Failure("no engine ever ran here: there is no source to look at", hint="remit run")
            wanted = Declared(
                source.kind, source.namespace, source.name, source.spec, source.labels,
                {**source.annotations, RECONCILE_REQUESTED_AT: token}, source.provenance,
            )  # fmt: skip
            tx.put_spec(replace(source), wanted)
        if no_wait:
            print("asked for")
            return
        if common.wait_until(store, common.seconds_of(timeout), lambda s: _handled(s, token)) is None:
            raise Failure(
                f"the engine did not answer in {timeout}: does it run?", hint="remit run", code=Exit.DIFFERENT
            )
        with store.snapshot() as snapshot:
            done = snapshot.get(DEFAULT_SOURCE)
        assert done is not None
        raise typer.Exit(_say_sync(done.status))


def _handled(snapshot: Snapshot, token: str) -> bool:
    from controllers.wiring import DEFAULT_SOURCE

    source = snapshot.get(DEFAULT_SOURCE)
    return source is not None and source.status.get("lastHandledReconcile") == token


def _say_sync(status: dict[str, object]) -> int:
    from cli.output import safe, value_at

    ready = value_at(status, "conditions[Ready]") or {}
    units = status.get("units")
    print(f"{status.get('revision') or 'nothing read'}: {ready.get('reason')}")
    bad = ready.get("status") != "True"
    for unit in units if isinstance(units, list) else []:
        text = f"  {unit['path']}: {unit['reason']}, {unit.get('objects', 0)} objects {unit.get('message') or ''}"
        print(safe(text.rstrip()))
        for error in unit.get("errors", ()):
            print(safe(f"    {error}"))
        bad = bad or unit["reason"] != "Synced"
    if bad and ready.get("message"):
        print(safe(f"  {ready['message']}"))
    return int(Exit.DIFFERENT if bad else Exit.OK)
