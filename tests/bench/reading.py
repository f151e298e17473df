"""Benches of what is read over HTTP: lists."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from schemas.resource import SYSTEM, Declared
from tests.bench.engine import STATUS
from tests.bench.measure import Measured, by_turns, ms, processor_seconds, sized
from tests.fakes import world
from tests.fakes.read_api import StoreClock, read_app
from tests.fakes.world import World

LIST = "/apis/remit.dev/v1alpha1/missions"
_COLUMNS = (
    "kind, namespace, name, uid, generation, resource_version, created_at, manager, unit, labels, annotations,"
    " finalizers, provenance, spec, status"
)


def called(app: FastAPI, path: str, query: str = "") -> bytes:
    """The body of a GET, asked of the application itself: no socket, no client."""
    parts: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        assert message.get("status", 200) == 200, message
        parts.append(message.get("body", b""))

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(b"host", b"127.0.0.1"), (b"accept", b"application/json")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return b"".join(parts)


def missions_at(folder: Path, count: int) -> World:
    """A store with as many missions, each as one that was declared in a file, with a status."""
    made = World(folder)
    made.commit({"e.yaml": world.executor(), "a.yaml": world.agent(), "m.yaml": world.mission("first")})
    made.sync()
    seed = made.get("Mission", "first")
    assert seed.provenance is not None
    names = [f"m-{number:06d}" for number in range(1, count)]
    with made.store.transaction(SYSTEM) as tx:
        tx.create_many([
            Declared("Mission", "default", name, {**seed.spec, "title": f"The links of page {name}"}, seed.labels,
                     seed.annotations, replace(seed.provenance, path=f"missions/{name}.yaml"), seed.ownership)
            for name in names
        ], manager=seed.manager, unit=seed.unit, status=lambda _: {**seed.status, **STATUS})  # fmt: skip
    return made


def listing(scale: float) -> Measured:
    """A list of every mission as JSON: the application from request to body, against one SELECT whose JSON columns are
    decoded, put together and encoded."""
    count, rounds = sized(10_000, scale), 1 if scale < 0.5 else 9
    with tempfile.TemporaryDirectory() as folder:
        made = missions_at(Path(folder), count)
        app = read_app(made.store, StoreClock(made.clock))
        with closing(sqlite3.connect(made.harness.path)) as raw:
            ours: Callable[[], bytes] = lambda: called(app, LIST)  # noqa: E731
            floor: Callable[[], bytes] = lambda: _raw(raw)  # noqa: E731
            a_items, b_items = (json.loads(work())["items"] for work in (ours, floor))
            assert len(a_items) == len(b_items) == count
            assert a_items[0]["spec"] == b_items[0]["spec"]
            a, b = by_turns(ours, floor, rounds, processor_seconds)
        made.readers.close()
        made.harness.close()
    return Measured(a / b, ms(a), ms(b), f"{count:,} missions")


def _raw(connection: sqlite3.Connection) -> bytes:
    items = []
    for row in connection.execute(f"SELECT {_COLUMNS} FROM objects WHERE kind = 'Mission' ORDER BY namespace, name"):
        kind, namespace, name, uid, generation, version, created, manager, unit = row[:9]
        labels, annotations, finalizers, provenance, spec, status = (json.loads(text or "{}") for text in row[9:])
        items.append({
            "kind": kind,
            "metadata": {"namespace": namespace, "name": name, "uid": uid, "generation": generation,
                         "resourceVersion": str(version), "createdAt": created, "labels": labels,
                         "annotations": annotations, "finalizers": finalizers, "manager": manager, "unit": unit},
            "spec": spec, "status": status, "provenance": provenance,
        })  # fmt: skip
    return json.dumps({"items": items}, separators=(",", ":")).encode()
