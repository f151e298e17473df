"""The log by page, the story of one object, and costs, over HTTP."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest

from tests.fakes.read_api import StoreClock, asking, read_app
from tests.fakes.world import EXECUTOR, World, agent, mission

pytestmark = pytest.mark.asyncio
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("world"))
    world.commit({"executor.yaml": EXECUTOR, "agent.yaml": agent(),
                  **{f"m{i}.yaml": mission(f"m{i}", agent=None, labels=f"half: x{i % 2}") for i in range(5)},
                  "one.yaml": mission("one")})  # fmt: skip
    world.sync()
    yield world
    world.close()


async def test_pages_of_the_log_follow_each_other_without_gap(world: World) -> None:
    async with asking(read_app(world.store, StoreClock(world.clock))) as client:
        for order in ("newest", "oldest"):
            seen: list[int] = []
            more = ""
            while True:
                answer = (await client.get(f"/api/v1/events?limit=7&order={order}&continue={more}")).json()
                seen += [item["remit"]["seq"] for item in answer["items"]]
                more = answer["metadata"].get("continue", "")
                if not more:
                    break
            everything = list(range(1, len(seen) + 1))
            assert seen == (everything if order == "oldest" else everything[::-1])
            assert answer["metadata"]["resourceVersion"] == str(len(seen))


async def test_filters_of_the_log(world: World) -> None:
    uid = world.get("Mission", "one").uid
    async with asking(read_app(world.store, StoreClock(world.clock))) as client:

        async def found(query: str) -> list[dict[str, str]]:
            answer = await client.get(f"/api/v1/events?limit=1000&{query}")
            assert answer.status_code == 200, answer.text
            items: list[dict[str, str]] = answer.json()["items"]
            return items

        assert {i["reason"] for i in await found("types=Created,Dispatched")} == {"Created", "Dispatched"}
        assert {i["involvedObject"]["kind"] for i in await found("kinds=Agent")} == {"Agent"}  # type: ignore[index]
        by_uid = await found(f"uid={uid}")
        assert by_uid == await found(f"fieldSelector=involvedObject.uid%3D{uid}")
        assert len(await found("fieldSelector=involvedObject.kind%3DMission,involvedObject.name%3Done")) <= len(by_uid)
        assert await found("since=2099-01-01T00:00:00Z") == []
        assert await found("namespace=nowhere") == []
        for bad in ("types=Wish", "since=yesterday", "limit=-1", "continue=x", "fieldSelector=x"):
            assert (await client.get(f"/api/v1/events?{bad}")).status_code in (400, 422), bad
        table = (await client.get("/api/v1/namespaces/default/events?limit=3", headers=TABLE)).json()
        assert (table["kind"], len(table["rows"])) == ("Table", 3)


async def test_the_story_of_a_mission(world: World) -> None:
    one = world.get("Mission", "one")
    async with asking(read_app(world.store, StoreClock(world.clock))) as client:
        story = (await client.get(f"/api/v1/timeline/{one.uid}")).json()
        first = (await client.get(f"/api/v1/timeline/{one.uid}?limit=2")).json()
        rest = (await client.get(f"/api/v1/timeline/{one.uid}?after={first['more']}")).json()
        assert (await client.get("/api/v1/timeline/none")).status_code == 404
    assert story["object"]["name"] == "one"
    assert story["object"]["provenance"]["path"] == "one.yaml"
    assert [p["kind"] for p in story["parts"]] == ["Run"]
    assert story["who"]
    assert [*first["events"], *rest["events"]] == story["events"]


async def test_costs_are_told_apart_as_asked(world: World) -> None:
    async with asking(read_app(world.store, StoreClock(world.clock))) as client:
        for by in ("agent", "mission", "project", "goal", "provider", "model", "day", "tenant"):
            found = (await client.get(f"/api/v1/costs?by={by}&since=24h")).json()
            assert found["by"] == by
            assert "settledUsd" in found["total"]
        assert (await client.get("/api/v1/costs?by=colour")).status_code == 422


async def test_lists_go_on_where_they_ended_and_an_old_token_is_410(world: World) -> None:
    base = "/apis/remit.dev/v1alpha1/namespaces/default/missions"
    async with asking(read_app(world.store, StoreClock(world.clock))) as client:
        for query, count in (("", 6), ("&labelSelector=half%3Dx0", 3), ("&labelSelector=half!%3Dx0", 3),
                             ("&labelSelector=!half", 1), ("&fieldSelector=metadata.name%3Dm3", 1),
                             ("&fieldSelector=status.state%3DInbox,spec.title!%3Ddo m1", 4)):  # fmt: skip
            names: list[str] = []
            more = ""
            while True:
                answer = (await client.get(f"{base}?limit=2&continue={more}{query}")).json()
                names += [item["metadata"]["name"] for item in answer["items"]]
                more = answer["metadata"].get("continue", "")
                if not more:
                    break
            assert (len(names), names) == (count, sorted(set(names))), query
        token = (await client.get(f"{base}?limit=1")).json()["metadata"]["continue"]
        for bad in ("limit=x", "continue=%%%", "labelSelector=a%3D(b", "fieldSelector=x"):
            answer = await client.get(f"{base}?{bad}")
            assert (answer.status_code, answer.json()["kind"]) == (400, "Status")
        assert (await client.get(f"{base}?continue={token}")).status_code == 200
        other = base64.urlsafe_b64encode(json.dumps([1, 10**9, "default", "a"]).encode()).decode()
        answer = await client.get(f"{base}?continue={other}")
        assert (answer.status_code, answer.json()["reason"]) == (410, "Expired")


async def test_a_watch_of_a_version_that_is_forgotten_or_of_another_store_is_expired(world: World) -> None:
    base = "/apis/remit.dev/v1alpha1/missions?watch=1&timeoutSeconds=1&resourceVersion="
    async with asking(read_app(world.store, StoreClock(world.clock))) as client:
        lines = (await client.get(f"{base}99999999")).text.splitlines()
        error = json.loads(lines[0])
        assert (error["type"], error["object"]["code"], error["object"]["reason"]) == ("ERROR", 410, "Expired")


async def test_a_watch_begins_with_what_is_there_and_marks_its_place(world: World) -> None:
    base = "/apis/remit.dev/v1alpha1/missions?watch=1&timeoutSeconds=1"
    async with asking(read_app(world.store, StoreClock(world.clock))) as client:
        lines = [json.loads(line) for line in (await client.get(base)).text.splitlines()]
        assert [line["type"] for line in lines] == ["ADDED"] * 6
        query = "&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
        lines = [json.loads(line) for line in (await client.get(base + query)).text.splitlines()]
        assert lines[-1]["type"] == "BOOKMARK"
        assert lines[-1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_metadata_alone_and_tables_are_given_to_whoever_asks(world: World) -> None:
    base = "/apis/remit.dev/v1alpha1/namespaces/default/missions"
    accept = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
    async with asking(read_app(world.store, StoreClock(world.clock))) as client:
        partial = (await client.get(base, headers=accept)).json()
        assert partial["kind"] == "PartialObjectMetadataList"
        assert "spec" not in partial["items"][0]
        table = (await client.get(f"{base}?includeObject=Object", headers=TABLE)).json()
        assert table["rows"][0]["object"]["kind"] == "Mission"
        assert len(table["rows"][0]["cells"]) == len(table["columnDefinitions"])
        for path in ("/api", "/apis", "/api/v1", "/apis/remit.dev", "/apis/remit.dev/v1alpha1", "/openapi/v3",
                     "/openapi/v3/apis/remit.dev/v1alpha1", "/version", "/api/v1/namespaces/default"):  # fmt: skip
            assert (await client.get(path)).status_code == 200, path
        for path in ("/apis/remit.dev/v1alpha1/wishes", "/apis/remit.dev/v1alpha1/missions/x",
                     "/apis/remit.dev/v1alpha1/namespaces/default/tenants", "/api/v1/namespaces/none"):  # fmt: skip
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["kind"]) == (404, "Status"), path


async def test_search_gives_pieces_of_text_with_the_places_of_the_words(world: World) -> None:
    while world.store.index_search(100):
        pass
    async with asking(read_app(world.store, StoreClock(world.clock))) as client:
        found = (await client.get("/api/v1/search", params={"q": "kind:mission do one"})).json()["hits"]
        assert [hit["name"] for hit in found] == ["one"]
        text, ranges = found[0]["title"]["text"], found[0]["title"]["ranges"]
        assert [text[a:b] for a, b in ranges] == ["one", "do", "one"]
        events = (await client.get("/api/v1/search", params={"q": "kind:event dispatched"})).json()["hits"]
        assert events[0]["seq"]
        assert "Dispatched" in events[0]["title"]["text"]
        narrow = {"q": "kind:mission do one ns:elsewhere", "namespace": "default"}
        assert (await client.get("/api/v1/search", params=narrow)).json()["hits"] == []
        narrow = {"q": "kind:mission do one", "namespace": "default"}
        assert (await client.get("/api/v1/search", params=narrow)).json()["hits"] == found
        assert (await client.get("/api/v1/search", params={"q": "x" * 501})).status_code == 422


async def test_what_is_due_is_told_as_json_and_for_calendars(world: World) -> None:
    async with asking(read_app(world.store, StoreClock(world.clock))) as client:
        feed = (await client.get("/api/v1/schedule/feed?days=30")).json()
        assert feed["kind"] == "ScheduleFeed"
        ics = await client.get("/api/v1/schedule/feed.ics")
        assert ics.headers["content-type"].startswith("text/calendar")
        assert ics.text.startswith("BEGIN:VCALENDAR")
        assert (await client.get("/api/v1/notifications")).json() == {"items": []}
        assert (await client.get("/api/v1/schedule/feed?days=0")).status_code == 422


async def test_what_looks_like_a_secret_is_masked_everywhere(world: World) -> None:
    secret = "ghp_" + "a1" * 18
    world.commit({"leak.yaml": mission("leak", agent=None, description=f"use {secret} for it")})
    world.sync()
    while world.store.index_search(100):
        pass
    async with asking(read_app(world.store, StoreClock(world.clock))) as client:
        base = "/apis/remit.dev/v1alpha1"
        for path in (
            f"{base}/missions",
            f"{base}/namespaces/default/missions/leak",
            f"{base}/missions?watch=1&timeoutSeconds=1",
            "/api/v1/search?q=leak",
        ):
            text = (await client.get(path)).text
            assert "leak" in text
            assert secret not in text, path
