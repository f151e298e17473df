"""The application of the port ``listen``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from api.crowd import LoadLimit
from api.hosts import HostGuard
from api.problems import ErrorBoundary, Problem, of_error, on_http_exception, on_problem
from api.read import log
from api.read.answers import Reader, json_response, problems
from api.read.due import add_due
from api.read.engine import Blocking, Clock, EngineFacts
from api.read.found import add_search
from api.read.guard import ReadOnly, SecurityHeaders, TokenGuard
from api.read.health import add_health
from api.read.kube.routes import add_kube
from api.read.kube.shape import document
from api.read.metrics import add_metrics
from api.read.records import add_records
from api.read.summary import summarize
from api.stream.events import MOST_CLIENTS, EventStream, add_stream
from api.stream.follower import Follower
from schemas.errors import RemitError
from store.contract import Store

_ABOUT = (
    "What is declared, what is done and what it costs, for people and their tools. Nothing here changes the world:"
    " every route answers GET and HEAD only. Objects are shaped as Kubernetes shapes them, so kubectl reads them."
)

MOST_REQUESTS = 4_000
"""That are answered at a time, streams and watches included."""


def create_read_app(
    store: Store,
    *,
    clock: Clock,
    blocking: Blocking,
    hosts: Iterable[str] = (),
    token: str | None = None,
    version: str = "v1",
    engine: EngineFacts | None = None,
    most_streams: int = MOST_CLIENTS,
) -> FastAPI:
    """The read API over ``store``. ``hosts`` are names it answers to beside loopback ones; with ``token`` everything
    but /healthz wants it. ``blocking`` should have threads of its own. At most ``most_streams`` are open at a time.

    For pages that are added: ``app.state.reader`` reads the store, ``app.state.engine`` are the facts of the engine,
    ``app.state.clock`` tells the time. ``app.state.close()`` ends every stream: call it when the server is to stop.
    """
    facts = engine or EngineFacts()
    reader = Reader(store, blocking)
    follower = Follower(reader, clock, document)
    stream = EventStream(reader, follower, clock, most_clients=most_streams)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        follower.start()
        try:
            yield
        finally:
            await follower.stop()
            await stream.stop()

    app = FastAPI(
        title="Remit read API",
        version=version,
        description=_ABOUT,
        lifespan=lifespan,
        openapi_url="/openapi.json",
        responses=problems(401, 422, 503),
        docs_url=None,
        redoc_url=None,
    )
    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(RemitError, _on_remit_error)
    app.add_exception_handler(RequestValidationError, _on_bad_query)

    app.state.reader = reader
    app.state.engine = facts
    app.state.clock = clock
    app.state.close = follower.close
    app.state.follower = follower
    app.state.stream = stream

    add_health(app, reader, facts, version)
    add_metrics(app, reader, facts, version)

    @app.get("/api/v1/summary", tags=["figures"], summary="The fleet in one answer", operation_id="summary")
    async def summary() -> Response:
        """Counts by state, what needs a person, sources, costs of the last day, and whether the engine is well."""
        return json_response(await reader.read(lambda snapshot: summarize(snapshot, facts, clock.now())))

    @app.get("/api/v1/settings", tags=["figures"], summary="The configuration in force", operation_id="settings")
    async def settings() -> Response:
        """Every key with its value; secrets are named and never held."""
        return json_response({"settings": facts.settings})

    kube = app.state.kube = add_kube(app, reader, follower, clock)

    @app.get("/api/v1/events", tags=["log"], summary="Rows of the event log", operation_id="events",
             openapi_extra={"parameters": log.PARAMETERS}, responses=log.REFUSED)  # fmt: skip
    async def events(request: Request) -> Response:
        """The newest first, unless ``order=oldest``. ``metadata.continue`` goes on where the page ended."""
        return await kube.events(request, None)

    add_records(app, reader, facts, clock)
    add_due(app, reader, facts, clock)
    add_search(app, reader)
    add_stream(app, stream)

    # The last one added is the first one asked.
    app.add_middleware(TokenGuard, token=token)
    app.add_middleware(ReadOnly)
    app.add_middleware(LoadLimit, most=MOST_REQUESTS)
    app.add_middleware(HostGuard, names=tuple(hosts))
    app.add_middleware(ErrorBoundary)
    app.add_middleware(SecurityHeaders)
    return app


async def _on_remit_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RemitError)
    return of_error(error).response()


async def _on_bad_query(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [(".".join(str(part) for part in found["loc"][1:])[:100], str(found["msg"])) for found in error.errors()]
    return Problem(422, "Invalid", "the query is not accepted; see errors", errors=errors[:20]).response()
