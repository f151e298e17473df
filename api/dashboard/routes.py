"""Puts the pages onto an application. Every route answers GET and HEAD and nothing else."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ParamSpec, Protocol, TypeVar
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request, Response
from starlette.routing import BaseRoute, Route

from api.dashboard import links
from api.dashboard.facts.columns import Columns
from api.dashboard.facts.frame import Frame, frame
from api.dashboard.facts.log import FOUND
from api.dashboard.facts.view import Site, View
from api.dashboard.pages import LOG_FILE, NAV, OTHERS, PAGES, PLAIN_GLOBAL, PLAIN_LIST, PLAIN_OBJECT, Page, run_of
from api.dashboard.rendering import ASSETS, HEADERS, STATIC, Rendered, Renderings, Templates, asset, packed_asset
from api.dashboard.turns import Turns
from api.read.hits import hits
from schemas import registry
from schemas.errors import NotFound, RemitError, UnknownName
from store.contract import Store

log = logging.getLogger(__name__)

METHODS = ["GET", "HEAD"]
KEPT = ("view", "ns", "tab", "uid", "hide", "density")
"""Fields of a query that a filter leaves as they are."""
_QUERY = 20
_VALUE = 400
_BUCKET_S = 10
"""So long a page says the same time while nothing changes; the script of the page counts on."""
_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))", re.IGNORECASE)
"""In Accept-Encoding, of whoever takes it."""
P = ParamSpec("P")
T = TypeVar("T")


class Blocking(Protocol):
    """Runs what blocks without blocking the event loop (``controllers.runtime.blocking.Blocking``)."""

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of ``work``; its exception is raised here."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A page that says what is wrong and what to do."""

    title: str
    text: str
    href: str = "/"
    link: str = "To the fleet"
    command: str = ""


class Pages:
    """Answers requests for pages out of ``store``."""

    def __init__(self, store: Store, *, now: Callable[[], datetime], blocking: Blocking, site: Site) -> None:
        self._store = store
        self._now = now
        self._blocking = blocking
        self._site = site
        self._templates = Templates()
        self._renderings = Renderings()
        self._turns: Turns[tuple[str, str, str], Rendered] = Turns()

    async def answer(self, page: Page, request: Request) -> Response:
        """A page, or the page that says why not."""
        path, query = request.url.path, request.url.query
        place = {k: str(v) for k, v in request.path_params.items()}

        async def made() -> Rendered:
            try:
                return await self._blocking.run(self._page, page, path, _query(query), place)
            except RemitError as error:
                log.warning("the page %s could not be read: %s", page.path, error)
                return await self._blocking.run(self._unread, error)

        return _response(await self._turns.get((page.path, path, query), made), request)

    async def log_file(self, request: Request) -> Response:
        """The log of a run as a file, masked."""
        place = {k: str(v) for k, v in request.path_params.items()}
        try:
            return await self._blocking.run(self._log_file, place)
        except RemitError as error:
            log.warning("a log could not be read: %s", error)
            return Response("not here\n", 404, media_type="text/plain", headers=HEADERS)

    def _log_file(self, place: dict[str, str]) -> Response:
        with self._store.snapshot() as snapshot:
            run = run_of(View(snapshot, self._now(), self._site, place=place))
            body = self._site.log_file(snapshot, run)
        if body is None:
            raise NotFound(f"there is no log of {run.name} on this machine")
        name = {"Content-Disposition": f'attachment; filename="{run.name}.log"', "Cache-Control": "no-store"}
        return Response(body, media_type="text/plain; charset=utf-8", headers={**HEADERS, **name})

    async def moved(self, request: Request) -> Response:
        """The page of the object with a uid, whatever it is called now."""
        uid = str(request.path_params["uid"])[:64]
        return _response(await self._blocking.run(self._by_uid, uid), request)

    def _page(self, page: Page, path: str, query: dict[str, str], place: dict[str, str]) -> Rendered:
        now = self._now()
        with self._store.snapshot() as snapshot:
            last = snapshot.events(limit=1, newest_first=True)
            moment = (snapshot.latest_version(), last[0].seq if last else 0, int(now.timestamp()) // _BUCKET_S)
            asked = View(snapshot, now, self._site, path, query, place)
            find = lambda words: hits(self._store, words, FOUND, namespace=asked.namespace)  # noqa: E731
            view = replace(asked, find=find)
            key = (page.path, path, tuple(sorted(query.items())), *moment)
            return self._renderings.get(key, lambda: self._made(page, view))

    def _made(self, page: Page, view: View) -> Rendered:
        around = frame(view)
        try:
            title, facts = page.read(view)
        except (NotFound, UnknownName) as error:
            return self._problem(view, around, 404, Problem("Not here", str(error)), page.nav)
        values = {
            "title": title,
            "page": facts,
            "path": view.path,
            "kept": [(k, v) for k, v in view.query.items() if k in KEPT],
            "shown": Columns.of(view),
            "current": page.nav,
            "first": [view.commands.verb("init"), view.commands.verb("run"), view.commands.verb("get", "missions")],
        }
        return Rendered.of(200, self._html(page.template, view, around, values))

    def _html(self, template: str, view: View, around: Frame, values: Mapping[str, Any]) -> bytes:
        shared = {"site": self._site, "frame": around, "now": view.now, "nav": NAV}
        return self._templates.render(template, {**shared, **values})

    def _problem(self, view: View, around: Frame, status: int, problem: Problem, nav: str) -> Rendered:
        values = {"title": problem.title, "page": problem, "current": nav, "shown": Columns()}
        return Rendered.of(status, self._html("problem.html", view, around, values))

    def _unread(self, error: RemitError) -> Rendered:
        """The store does not answer: a page without anything from it."""
        values = {
            "title": "The store does not answer",
            "page": Problem(
                "The store does not answer", str(error), "/", "Try again", self._site.commands.verb("doctor")
            ),
            "current": "",
            "shown": Columns(),
            "site": self._site,
            "frame": Frame(0, None, (), 0, 0, 0, 0),
            "now": self._now(),
            "nav": NAV,
        }
        return Rendered.of(503, self._templates.render("problem.html", values))

    def _by_uid(self, uid: str) -> Rendered:
        now = self._now()
        with self._store.snapshot() as snapshot:
            found = snapshot.get_by_uid(uid)
            if found is not None:
                return Rendered.elsewhere(links.of(found.key))
            view = View(snapshot, now, self._site)
            return self._problem(view, frame(view), 404, Problem("Not here", "No object has that uid any more."), "")


def add_dashboard(
    app: FastAPI, store: Store, *, now: Callable[[], datetime], blocking: Blocking, site: Site | None = None
) -> None:
    """Add the pages to ``app``: ``/``, the pages of ``pages.PAGES``, ``/r/{uid}`` and the files below ``/dashboard``.
    ``blocking`` should have threads of its own. Who may ask is for the application to guard."""
    pages = Pages(store, now=now, blocking=blocking, site=site or Site())

    routes: list[BaseRoute] = []

    def put(path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> None:
        routes.append(Route(path, endpoint, methods=METHODS, include_in_schema=False))

    def put_page(page: Page, path: str) -> None:
        put(path, functools.partial(pages.answer, page))

    for page in PAGES:
        put_page(page, page.path)
    put(f"{STATIC}/{{name}}", _file)
    put(LOG_FILE, pages.log_file)
    put("/r/{uid}", pages.moved)
    for plural in OTHERS:
        base = f"/{plural}"
        one = PLAIN_OBJECT if registry.find_name(plural).namespaced else PLAIN_GLOBAL
        put_page(_fixed(PLAIN_LIST, plural), base)
        put_page(_fixed(one, plural), one.path.replace("/{plural}", base))
    # Plain routes before those of the API: there is nothing to validate, and everybody asks for a page at once.
    app.router.routes[:0] = routes


def _fixed(page: Page, plural: str) -> Page:
    """A plain page of one kind: its plural is a part of the address, not a parameter."""
    read = page.read

    def found(view: View) -> tuple[str, Any]:
        return read(replace(view, place={**view.place, "plural": plural}))

    return Page(f"/{plural}", page.template, page.nav, found)


async def _file(request: Request) -> Response:
    name = str(request.path_params["name"])
    media = ASSETS.get(name)
    if media is None:
        return Response("not here", 404, media_type="text/plain", headers=HEADERS)
    headers = {**HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
    return _packed(request, 200, asset(name), packed_asset(name), media, headers)


def _packed(
    request: Request, status: int, body: bytes, packed: bytes, media: str, headers: Mapping[str, str]
) -> Response:
    """One of both, whichever is asked for."""
    headers = {**headers, "Vary": "Accept-Encoding"}
    if _GZIP.search(request.headers.get("accept-encoding", "")):
        return Response(packed, status, media_type=media, headers={**headers, "Content-Encoding": "gzip"})
    return Response(body, status, media_type=media, headers=headers)


def _query(text: str) -> dict[str, str]:
    """At most so many fields of so many characters; the last of a name counts."""
    try:
        pairs = parse_qsl(
            text[:8000], keep_blank_values=False, max_num_fields=_QUERY, encoding="utf-8", errors="replace"
        )
    except ValueError:
        return {}
    return {k[:40]: v[:_VALUE] for k, v in pairs}


def _response(found: Rendered, request: Request) -> Response:
    headers = {**HEADERS, "Cache-Control": "no-store"}
    if found.location:
        return Response(status_code=found.status, headers={**headers, "Location": found.location})
    headers["ETag"] = found.tag
    if found.status == 200 and request.headers.get("if-none-match") == found.tag:
        return Response(status_code=304, headers=headers)
    return _packed(request, found.status, found.body, found.packed, "text/html; charset=utf-8", headers)
