"""The routes of the Kubernetes shape."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.datastructures import QueryParams

from api.read import log
from api.read.answers import Reader, json_response
from api.read.engine import Clock
from api.read.kube import discovery, openapi
from api.read.kube.lists import matches, page, query_of
from api.read.kube.shape import Form, Wanted, as_list, as_one, document, wanted_of
from api.read.kube.status import StatusProblem, not_found
from api.read.kube.watch import LogWatch, Watch
from api.read.kube.written import is_plain, list_text
from api.stream.follower import Follower
from api.stream.response import Push, Streaming
from schemas import registry
from schemas.base import API_GROUP, DEFAULT_NAMESPACE, Key
from schemas.kind import KindInfo
from schemas.quantities import format_time
from store.contract import Snapshot

MOST_WATCHES = 500
_EVENT_NAME = re.compile(r"^event-[0-9]{1,15}$")
_OF_WATCH = ("resourceVersion", "timeoutSeconds")
_BASE = f"/apis/{API_GROUP}/{discovery.VERSION}"


class KubeRoutes:
    """Lists, objects and watches of every kind."""

    def __init__(self, reader: Reader, follower: Follower, clock: Clock, *, most_watches: int = MOST_WATCHES) -> None:
        self._reader = reader
        self._follower = follower
        self._clock = clock
        self._most = most_watches
        self.watches = 0

    async def list_or_watch(self, request: Request, plural: str, namespace: str | None) -> Response:
        """All objects of a kind, of one namespace or of all."""
        info = _info(plural)
        if namespace is not None and not info.namespaced:
            raise _no_resource()
        query, wanted = query_of(request.query_params), _wanted(request)
        if query.watch:
            return self._watch(Watch(info, namespace, query, wanted, self._reader, self._follower, self._clock))

        def read(snapshot: Snapshot) -> Response:
            if wanted.form is Form.OBJECT and is_plain(query):
                return Response(list_text(snapshot, info, namespace, query), media_type="application/json")
            found = page(snapshot, info, namespace, query)
            meta: dict[str, Any] = {"resourceVersion": str(found.version)}
            if found.more:
                meta["continue"] = found.more
            return json_response(as_list(info, found.items, meta, wanted, self._clock.now()))

        return await self._reader.read(read)

    async def events(self, request: Request, namespace: str | None) -> Response:
        """Rows of the log, or a watch of them."""
        query = log.query_of(request.query_params, self._clock.now(), namespace)
        wanted = _wanted(request)
        if request.query_params.get("watch", "").lower() in ("1", "true"):
            asked = query_of(QueryParams({k: v for k, v in request.query_params.items() if k in _OF_WATCH}))
            watch = LogWatch(
                query, asked.since, asked.timeout_s, wanted, self._reader, self._follower, self._clock
            )  # fmt: skip
            return self._watch(watch)
        found = await self._reader.read(lambda snapshot: log.page(snapshot, query))
        return json_response(log.as_list(found, wanted, self._clock.now()))

    async def one(self, request: Request, plural: str, namespace: str, name: str) -> Response:
        """One object."""
        info = _info(plural)
        if bool(namespace) is not info.namespaced:
            raise _no_resource()
        query, wanted = query_of(request.query_params), _wanted(request)

        def read(snapshot: Snapshot) -> Response:
            resource = snapshot.get(Key(info.kind, namespace, name))
            if resource is None or not matches(document(resource), resource.labels, query):
                raise not_found(info.plural, name)
            return json_response(as_one(info, document(resource), wanted, self._clock.now()))

        return await self._reader.read(read)

    def _watch(self, watch: Watch | LogWatch) -> Response:
        if self.watches >= self._most:
            problem = StatusProblem(
                429, "TooManyRequests", f"{self._most} watches are open already", retryAfterSeconds=5
            )
            problem.headers["Retry-After"] = "5"
            raise problem

        async def lines(gone: asyncio.Future[Any], _: Push) -> AsyncIterator[bytes]:
            self.watches += 1
            try:
                async for line in watch.lines(gone):
                    yield line
            finally:
                self.watches -= 1

        return Streaming(lines, media_type="application/json")


def _info(plural: str) -> KindInfo:
    for name in registry.NAMES:
        if name.plural == plural and not name.info.own_table:
            return name.info
    raise _no_resource()


def _no_resource() -> StatusProblem:
    return StatusProblem(404, "NotFound", "the server could not find the requested resource")


def _wanted(request: Request) -> Wanted:
    return wanted_of(request.headers.get("accept", ""), request.query_params.get("includeObject", ""))


def add_kube(app: FastAPI, reader: Reader, follower: Follower, clock: Clock) -> KubeRoutes:
    """Every route of this shape. They are described by ``/openapi/v3``, not by ``/openapi.json``."""
    routes = KubeRoutes(reader, follower, clock)

    def get(path: str, endpoint: Any) -> None:
        app.add_api_route(path, endpoint, methods=["GET"], include_in_schema=False)

    async def api(request: Request) -> Response:
        if discovery.wants_aggregated(request.headers.get("accept", "")):
            return json_response(discovery.aggregated_core(), media_type=discovery.AGGREGATED)
        return json_response(discovery.api_versions())

    async def apis(request: Request) -> Response:
        if discovery.wants_aggregated(request.headers.get("accept", "")):
            return json_response(discovery.aggregated_groups(), media_type=discovery.AGGREGATED)
        return json_response(discovery.groups())

    async def core(_: Request) -> Response:
        return json_response(discovery.core_resources())

    async def group(_: Request) -> Response:
        return json_response(discovery.group())

    async def resources(_: Request) -> Response:
        return json_response(discovery.resources())

    async def openapi_index(_: Request) -> Response:
        return json_response(await reader.run(openapi.index))

    async def openapi_document(_: Request) -> Response:
        return json_response(await reader.run(openapi.document))

    async def namespaces(request: Request) -> Response:
        return json_response(await reader.read(_namespaces))

    async def namespace(_: Request, name: str) -> Response:
        found = await reader.read(_namespaces)
        for item in found["items"]:
            if item["metadata"]["name"] == name:
                return json_response(item)
        raise StatusProblem(404, "NotFound", f'namespaces "{name}" not found', name=name, kind="namespaces")

    async def namespaced_events(request: Request, namespace: str) -> Response:
        return await routes.events(request, namespace)

    async def event(_: Request, namespace: str, name: str) -> Response:
        seq = int(name.removeprefix("event-")) if _EVENT_NAME.match(name) else 0
        rows = (
            await reader.read(lambda snapshot: snapshot.events(after=seq - 1, before=seq + 1, limit=1)) if seq else []
        )
        if not seq or not rows or (rows[0].subject.namespace or DEFAULT_NAMESPACE) != namespace:
            raise StatusProblem(404, "NotFound", f'events "{name}" not found', name=name, kind="events")
        return json_response(log.to_wire(rows[0]))

    async def everywhere(request: Request, plural: str) -> Response:
        return await routes.list_or_watch(request, plural, None)

    async def in_namespace(request: Request, namespace: str, plural: str) -> Response:
        return await routes.list_or_watch(request, plural, namespace)

    async def one(request: Request, namespace: str, plural: str, name: str) -> Response:
        return await routes.one(request, plural, namespace, name)

    async def one_of_cluster(request: Request, plural: str, name: str) -> Response:
        return await routes.one(request, plural, "", name)

    get("/api", api)
    get("/apis", apis)
    get("/api/v1", core)
    get(f"/apis/{API_GROUP}", group)
    get(_BASE, resources)
    get("/openapi/v3", openapi_index)
    get(f"/openapi/v3/{openapi.PATH}", openapi_document)
    get("/api/v1/namespaces", namespaces)
    get("/api/v1/namespaces/{name}", namespace)
    get("/api/v1/namespaces/{namespace}/events", namespaced_events)
    get("/api/v1/namespaces/{namespace}/events/{name}", event)
    get(f"{_BASE}/namespaces/{{namespace}}/{{plural}}/{{name}}", one)
    get(f"{_BASE}/namespaces/{{namespace}}/{{plural}}", in_namespace)
    get(f"{_BASE}/{{plural}}/{{name}}", one_of_cluster)
    get(f"{_BASE}/{{plural}}", everywhere)
    return routes


def _namespaces(snapshot: Snapshot) -> dict[str, Any]:
    """The namespaces that tenants and agents are in, the default one always."""
    tenants = {r.name: r for r in snapshot.objects("Tenant")}
    names = {DEFAULT_NAMESPACE, *tenants}
    for kind in ("Agent", "Mission", "Source"):
        names |= {r.namespace for r in snapshot.objects(kind)}
    items = []
    for name in sorted(names):
        meta: dict[str, Any] = {"name": name}
        if name in tenants:
            meta |= {"uid": tenants[name].uid, "creationTimestamp": format_time(tenants[name].created_at)}
        items.append({"kind": "Namespace", "apiVersion": "v1", "metadata": meta, "status": {"phase": "Active"}})
    meta = {"resourceVersion": str(snapshot.latest_version())}
    return {"kind": "NamespaceList", "apiVersion": "v1", "metadata": meta, "items": items}
