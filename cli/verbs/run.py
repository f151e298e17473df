"""Running the engine: run."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import common, haste
from cli.failures import Exit

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.late import Made
    from api.server import HttpServer
    from cli.printer import Printer
    from cli.project import Project
    from controllers.runtime.blocking import Blocking
    from controllers.wiring import Engine

_LAST_WORDS_S = 2.0


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("run")(run)


def run(
    context: typer.Context,
    demo: Annotated[bool, typer.Option("--demo", help="Make a demo project under .remit/ and run that.")] = False,
    store: Annotated[str | None, typer.Option("--store", help="sqlite:///PATH or postgresql://HOST/NAME")] = None,
    agent_listen: Annotated[str | None, typer.Option("--agent-listen", help="Address of the agent protocol.")] = None,
    listen: Annotated[str | None, typer.Option("--listen", help="Address of the read API and dashboard.")] = None,
    hook_listen: Annotated[str | None, typer.Option("--hook-listen", help="Address for hooks of forges.")] = None,
    profile: Annotated[str | None, typer.Option("--profile", help="Workstation, Standalone or Vps.")] = None,
    source_url: Annotated[str | None, typer.Option("--source-git-url", help="Repository of specs.")] = None,
    source_ref: Annotated[str | None, typer.Option("--source-git-ref", help="Branch, tag or full ref.")] = None,
    source_path: Annotated[str | None, typer.Option("--source-git-path", help="Folder in the repository.")] = None,
    source_directory: Annotated[str | None, typer.Option("--source-directory-path", help="Folder of specs.")] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", help="Follow namespaces of a cluster with this label.")
    ] = None,
    quiet: common.Quiet = False,
) -> None:
    """Run the engine: follow the specs, dispatch missions, record what happens. Ctrl-C drains and ends it.

    Agents that are at work when the engine ends go on; the next start takes their results.

    Examples:
      remit run
      remit run --demo
      remit run --quiet --agent-listen 127.0.0.1:9421
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
        ("hookListen",): hook_listen,
        ("profile",): profile,
        ("source", "git", "url"): source_url,
        ("source", "git", "ref"): source_ref,
        ("source", "git", "path"): source_path,
        ("source", "directory", "path"): source_directory,
        ("source", "kubernetes", "shard"): shard,
    }
    project = locate(root, {keys: value for keys, value in flags.items() if value is not None})
    printer = None if quiet else Printer(sys.stdout)
    # A pass that computes keeps the event loop waiting for this long at a time; five milliseconds are the default, and
    # a mission is handed from thread to thread a dozen times before its program runs.
    sys.setswitchinterval(0.0005)
    code = asyncio.run(_run(project, printer))
    if printer is not None and not printer.close(_LAST_WORDS_S):
        os._exit(code)
    raise typer.Exit(code)


async def _run(project: Project, printer: Printer | None) -> int:
    from cli.account import Account
    from controllers.runtime.blocking import ThreadBlocking
    from controllers.runtime.signals import drain_on_signal
    from controllers.wiring import Engine, Place

    stop = asyncio.Event()
    leave_cluster: Callable[[], None] | None = None
    engine = Engine(
        project.config,
        Place(project.root, project.state),
        agent_url=lambda: server.url,
        environment=dict(os.environ),
    )
    threads = ThreadBlocking(4, name="remit-agents")
    readers = ThreadBlocking(4, name="remit-readers")
    try:
        server = _agent_server(engine, project, threads)
        engine.add("agent-server", server.run)
        if project.config.hook_listen is not None:
            engine.add("hook-server", _hook_server(engine, project.config.hook_listen).run)
        if project.config.admission is not None:
            from cli.admission import add_admission

            leave_cluster = add_admission(engine, project, threads)
        pages = _read_server(engine, project, readers)
        engine.add("read-server", pages.run)
        account = None
        if printer is not None:
            account = Account(engine.store, project, engine.clock, engine.blocking, printer=printer, pages=pages.url)
            engine.add("account", account.run)
        haste.settled()
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
        readers.close(wait=False)
        engine.close()
        if leave_cluster is not None:
            leave_cluster()


def _agent_server(engine: Engine, project: Project, blocking: Blocking) -> HttpServer:
    """The port of the agent protocol. Raises Stalled when it cannot be taken."""
    from api.lane import AUTHORIZE
    from api.late import LateApp, LateLane
    from api.server import HttpServer

    host, _, port = project.config.agent_listen.rpartition(":")
    app = LateApp(
        lambda: _agent_app(engine, project, blocking),
        load=lambda: importlib.import_module("api.agents.app"),
        clock=engine.clock,
        blocking=blocking,
    )
    lane = LateLane(app, AUTHORIZE)
    server = HttpServer(app, host.strip("[]"), int(port), setting="agentListen", on_stop=app.close, lane=lane)
    server.bind()
    return server


def _agent_app(engine: Engine, project: Project, blocking: Blocking) -> Made:
    """The agent protocol."""
    from api.agents.app import create_app

    host = project.config.agent_listen.rpartition(":")[0]
    return create_app(
        engine.store, engine.tokens, clock=engine.clock, blocking=blocking, state_dir=project.state,
        hosts=[host.strip("[]"), *project.config.listen_hosts], worker_token=engine.worker_token,
        files=engine.artifacts, stops=engine.stops, proposer=engine.proposer,
    )  # fmt: skip


def _hook_server(engine: Engine, address: str) -> HttpServer:
    """The port on which forges say that something was pushed. Raises Stalled when it cannot be taken."""
    from api.hooks import Hook, Proof, create_hooks_app
    from api.server import HttpServer

    async def hook_of(namespace: str, name: str) -> Hook | None:
        found = await engine.hook_of(namespace, name)
        return None if found is None else Hook(Proof(found[0]), found[1])

    app = create_hooks_app(hook_of, engine.hint, monotonic=engine.clock.monotonic)
    host, _, port = address.rpartition(":")
    server = HttpServer(app, host.strip("[]"), int(port), setting="hookListen")
    server.bind()
    return server


def _read_server(engine: Engine, project: Project, blocking: Blocking) -> HttpServer:
    """The port that people and their tools read from. Raises Stalled when it cannot be taken, Failure when it would be
    open to others without a token."""
    from api.late import LateApp
    from api.server import HttpServer

    token = _read_token(engine, project)
    app = LateApp(
        lambda: _read_app(engine, project, blocking, token), load=_load_pages, clock=engine.clock, blocking=blocking
    )
    host, _, port = project.config.listen.rpartition(":")
    server = HttpServer(app, host.strip("[]"), int(port), setting="listen", on_stop=app.close)
    server.bind()
    return server


def _load_pages() -> None:
    """Import what _read_app does."""
    for name in ("api.dashboard.routes", "api.read.app", "cli.feeds", "cli.site", "controllers.runs.costs"):
        importlib.import_module(name)


def _read_app(engine: Engine, project: Project, blocking: Blocking, token: str | None) -> Made:
    """The read API and the dashboard."""
    from api.dashboard.routes import add_dashboard
    from api.read.app import create_read_app
    from api.read.engine import EngineFacts
    from cli.feeds import StoreFeeds
    from cli.site import site_of
    from cli.version import __version__
    from controllers.runs.costs import gather

    config = project.config
    site = site_of(project, os.environ, __version__, engine.manager.health, engine.figures)
    facts = EngineFacts(
        health=engine.manager.health,
        figures=engine.figures,
        settings={setting.key: setting.value for setting in site.settings},
        used=lambda snapshot, namespace, since: gather(snapshot, namespace=namespace, since=since),
        feeds=StoreFeeds(),
        project=project.root.name,
        profile=config.profile.value,
    )
    host = config.listen.rpartition(":")[0]
    app = create_read_app(
        engine.store, clock=engine.clock, blocking=blocking, hosts=[host, *config.listen_hosts], token=token,
        version=__version__, engine=facts,
    )  # fmt: skip
    add_dashboard(app, engine.store, now=engine.clock.now, blocking=blocking, site=site)
    return app


def _read_token(engine: Engine, project: Project) -> str | None:
    """What readers have to carry. Raises Failure."""
    from cli.failures import Failure
    from controllers.secrets.source import SecretMissing, SecretUnavailable
    from controllers.wiring import LEAST_SECRET
    from schemas.config import Profile

    reference = project.config.listen_token
    if reference is None:
        if project.config.profile is Profile.WORKSTATION:
            return None
        raise Failure(
            f"profile {project.config.profile} serves nobody without a token: listenToken is not set",
            hint="listenToken: {env: REMIT_READ_TOKEN} in remit.yaml, or profile: Workstation",
        )
    try:
        token = engine.secret(reference)
    except (SecretMissing, SecretUnavailable) as error:
        raise Failure(f"listenToken: {error}", hint="set the variable or file that it names") from None
    if len(token) < LEAST_SECRET:
        raise Failure(f"listenToken has less than {LEAST_SECRET} characters", hint="openssl rand -hex 32")
    return token
