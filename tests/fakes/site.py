"""The dashboard beside the read API over a store: asked without a socket, and served on a port of this machine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import httpx2
from fastapi import FastAPI

from api.dashboard.commands import Commands
from api.dashboard.facts.view import Log, Setting, Site
from api.dashboard.routes import add_dashboard
from api.read.app import create_read_app
from api.server import HttpServer
from controllers.runtime.blocking import InlineBlocking, ThreadBlocking
from store.contract import Store
from tests.fakes.read_api import StoreClock, facts, read_app

BASE = "http://127.0.0.1:8420"
SITE = Site(
    environment="acme",
    version="0.0.0",
    settings=(Setting("listen", "127.0.0.1:8420", "default"),),
    commands=Commands(server=BASE),
    figures=lambda: {"queue_objects_ready": 3.0},
    log_file=lambda _, run: f"{run.name} begins\nreads docs\n".encode(),
    log_of=lambda _, run: Log((f"{run.name} begins", "reads docs", "handed in"), cut=True),
)
VOID = frozenset({"meta", "link", "input", "br", "hr", "img", "area", "base", "col", "embed", "source", "track", "wbr"})


def site_app(store: Store, now: Any, site: Site = SITE) -> FastAPI:
    """Read API and pages."""
    app = read_app(store, StoreClock(now))
    add_dashboard(app, store, now=now, blocking=InlineBlocking(), site=site)
    return app


def ask(app: FastAPI, paths: Iterable[str], **headers: str) -> dict[str, httpx2.Response]:
    """The answers to GET requests, one after the other."""

    async def run() -> dict[str, httpx2.Response]:
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url=BASE, headers=headers) as client:
            return {path: await client.get(path) for path in paths}

    return asyncio.run(run())


@dataclass
class Element:
    """One start tag."""

    name: str
    attributes: dict[str, str]


@dataclass
class Page(HTMLParser):
    """What a page is made of. ``unclosed`` lists elements that have no end, ``text`` is what a reader sees."""

    html: str
    elements: list[Element] = field(default_factory=list)
    text: str = ""
    unclosed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[str] = []
        self.feed(self.html)
        self.close()
        self.unclosed += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1] == tag:
            self._open.pop()
        else:
            self.unclosed.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, name: str) -> list[Element]:
        """The elements of a name."""
        return [e for e in self.elements if e.name == name]

    @property
    def ids(self) -> list[str]:
        """Every id, in order."""
        return [e.attributes["id"] for e in self.elements if "id" in e.attributes]

    @property
    def links(self) -> list[str]:
        """Where links of the page lead."""
        return [e.attributes["href"] for e in self.all("a") if "href" in e.attributes]


class _Life:
    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.started = threading.Event()

    def ready(self) -> None:
        self.started.set()


class Served:
    """The application on a port, in a thread of its own. ``stop`` and ``start`` play a restart of the engine: the port
    stays."""

    def __init__(self, store: Store, now: Any, site: Site = SITE) -> None:
        self._store, self._now, self._site = store, now, site
        self.port = 0
        self.app: FastAPI | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._life: _Life | None = None

    @property
    def url(self) -> str:
        """Without trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def streams(self) -> int:
        """Open event streams."""
        assert self.app is not None
        return int(self.app.state.stream.clients)

    def start(self) -> None:
        """Serve."""
        begun = threading.Event()

        def run() -> None:
            asyncio.run(self._run(begun))

        self._thread = threading.Thread(target=run, name="site")
        self._thread.start()
        assert begun.wait(60)
        assert self._life is not None
        assert self._life.started.wait(60)

    async def _run(self, begun: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._life = _Life()
        blocking = ThreadBlocking(4, name="site")
        try:
            app = create_read_app(self._store, clock=StoreClock(self._now), blocking=blocking, engine=facts())
            add_dashboard(app, self._store, now=self._now, blocking=blocking, site=self._site)
            self.app = app
            server = HttpServer(app, "127.0.0.1", self.port, on_stop=app.state.close)
            server.bind()
            self.port = server.port
            begun.set()
            await server.run(self._life)
        finally:
            blocking.close(wait=True)

    def stop(self) -> None:
        """End; idempotent."""
        if self._thread is None or self._loop is None or self._life is None:
            return
        self._loop.call_soon_threadsafe(self._life.stopping.set)
        self._thread.join(60)
        self._thread = None


@contextmanager
def served(store: Store, now: Any, site: Site = SITE) -> Iterator[Served]:
    """A running one."""
    found = Served(store, now, site)
    found.start()
    try:
        yield found
    finally:
        found.stop()
