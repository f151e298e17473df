"""The read API: who may ask, what may be asked, and that nothing changes the world."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.routing import Route

from schemas.errors import StoreUnavailable
from tests.fakes.read_api import StoreClock, asking, facts, read_app
from tests.fakes.world import EXECUTOR, World, agent, mission

pytestmark = pytest.mark.asyncio
TOKEN = "correct-horse-battery"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.commit({"executor.yaml": EXECUTOR, "agent.yaml": agent(), "mission.yaml": mission("one")})
    world.sync()
    yield world
    world.close()


def app_of(world: World, **options: object) -> FastAPI:
    return read_app(world.store, StoreClock(world.clock), **options)


async def test_no_route_takes_another_method_than_get_and_head(world: World) -> None:
    app = app_of(world)
    for route in app.routes:
        assert isinstance(route, Route)
        assert route.methods is not None
        assert route.methods <= {"GET", "HEAD"}, route.path
    async with asking(app) as client:
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            answer = await client.request(method, "/api/v1/summary")
            assert answer.status_code == 405
            assert answer.headers["allow"] == "GET, HEAD"
            assert answer.json()["code"] == "MethodNotAllowed"


async def test_head_gives_the_headers_of_get(world: World) -> None:
    async with asking(app_of(world)) as client:
        for path in ("/healthz", "/api/v1/summary", "/metrics"):
            answer = await client.head(path)
            assert (answer.status_code, answer.content) == (200, b"")


async def test_the_summary_counts_what_is_there(world: World) -> None:
    async with asking(app_of(world)) as client:
        found = (await client.get("/api/v1/summary")).json()
    assert sum(found["missions"].values()) == 1
    assert found["agents"]["total"] == 1
    assert found["sources"][0]["ready"] == "True"
    assert found["engine"]["project"] == "test"


async def test_a_foreign_name_gets_nothing(world: World) -> None:
    async with asking(app_of(world, hosts=["remit.example"])) as client:
        assert (await client.get("/healthz", headers={"Host": "evil.example"})).status_code == 421
        assert (await client.get("/healthz", headers={"Host": "remit.example"})).status_code == 200


async def test_with_a_token_only_healthz_answers_without_it(world: World) -> None:
    async with asking(app_of(world, token=TOKEN)) as client:
        assert (await client.get("/healthz")).status_code == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic !"}, {"Authorization": TOKEN}):
            answer = await client.get("/api/v1/summary", headers=headers)
            assert answer.status_code == 401
            assert "Basic" in answer.headers["www-authenticate"]
        basic = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
        for value in (f"Bearer {TOKEN}", f"Basic {basic}"):
            assert (await client.get("/api/v1/summary", headers={"Authorization": value})).status_code == 200


async def test_who_probes_without_a_token_learns_only_whether_it_is_ready(world: World) -> None:
    async with asking(app_of(world, token=TOKEN)) as client:
        assert (await client.get("/readyz")).json() == {"ready": True}
        with_token = await client.get("/readyz", headers={"Authorization": f"Bearer {TOKEN}"})
        assert "components" in with_token.json()


async def test_every_answer_carries_the_headers_of_safety(world: World) -> None:
    async with asking(app_of(world, token=TOKEN)) as client:
        for path in ("/healthz", "/nothing", "/api/v1/summary"):
            answer = await client.get(path)
            assert answer.headers["content-security-policy"].startswith("default-src 'none'")
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"


async def test_readiness_names_the_component_that_does_not_work(world: World) -> None:
    class Broken:
        name, state, restarts, problem, ok = "outbox", "Restarting", 3, "boom", False
        since = world.clock()

    app = app_of(world, engine=facts(health=lambda: [Broken()]))
    async with asking(app) as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["components"][0]["problem"] == "boom"
        assert 'remit_component_restarts{component="outbox"} 3.0' in (await client.get("/metrics")).text


async def test_a_store_that_does_not_answer_is_503(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise StoreUnavailable("no")

    monkeypatch.setattr(world.store, "snapshot", gone)
    async with asking(app_of(world)) as client:
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/api/v1/summary")).status_code == 503


async def test_metrics_name_no_object(world: World) -> None:
    async with asking(app_of(world)) as client:
        text = (await client.get("/metrics")).text
    assert "remit_missions{" in text
    assert "worker" not in text
