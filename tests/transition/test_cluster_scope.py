"""What of a cluster an engine minds: namespaces, shards, tenants; and what it does about what is not its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from controllers.sources import kubernetes_objects as objects
from controllers.sources.compile import compile_blob
from controllers.sources.kubernetes import FEW, KubernetesReader, Scope
from tests.fakes.cluster_world import ClusterWorld
from tests.fakes.kubernetes_api import FakeApi
from tests.fakes.world import agent, executor, mission

pytestmark = pytest.mark.parametrize("backend", ["sqlite"])


@pytest.fixture
def world(tmp_path: Path, backend: str) -> Iterator[ClusterWorld]:
    made = ClusterWorld(tmp_path, backend=backend)
    try:
        yield made
        made.settle()
        made.check()
    finally:
        made.close()


def in_namespace(namespace: str, name: str) -> dict[str, object]:
    """A mission there."""
    document: dict[str, object] = yaml.safe_load(mission(name, agent=None))
    document["metadata"] = {"name": name, "namespace": namespace}
    return document


def paths(reader: KubernetesReader) -> list[str]:
    """What it lists."""
    reader.fetch()
    return [entry.path for entry in reader.read_tree().entries]


def test_a_shard_follows_the_namespaces_with_its_label_as_labels_move(backend: str) -> None:
    api = FakeApi(namespaces={"a": {objects.SHARD: "one"}, "b": {objects.SHARD: "two"}, "c": {}})
    for namespace in "abc":
        api.put(in_namespace(namespace, f"m-{namespace}"))
    reader = KubernetesReader(api, Scope(shard="one"), monotonic=lambda: 0.0)
    assert paths(reader) == ["a/mission/m-a"]
    api.listeners.append(lambda kind, type_, document: bool(reader.mark(kind, document, gone=type_ == "DELETED")))
    api.put(in_namespace("b", "other"))
    assert not reader.is_due, "what happens elsewhere is no news"
    api.namespaces["c"] = {objects.SHARD: "one"}
    reader.check_shard()
    assert paths(reader) == ["a/mission/m-a", "c/mission/m-c"]


def test_namespaces_that_are_named_are_asked_for_alone(backend: str) -> None:
    api = FakeApi()
    for namespace in "abc":
        api.put(in_namespace(namespace, f"m-{namespace}"))
    reader = KubernetesReader(api, Scope(("a", "c")), monotonic=lambda: 0.0)
    assert paths(reader) == ["a/mission/m-a", "c/mission/m-c"]
    assert {path for _, path in api.requests if "/namespaces/" not in path} == set(), "a Role in each is enough"


def test_one_changed_object_is_one_request_and_many_are_a_list(backend: str) -> None:
    api = FakeApi()
    for number in range(FEW + 50):
        api.put(in_namespace("a", f"m{number:03}"))
    reader = KubernetesReader(api, Scope(), monotonic=lambda: 0.0)
    reader.fetch()
    api.listeners.append(lambda kind, type_, document: bool(reader.mark(kind, document, gone=type_ == "DELETED")))
    changed = in_namespace("a", "m000")
    changed["spec"] = {"title": "another"}
    api.put(changed)
    api.requests.clear()
    reader.fetch()
    assert len(api.requests) == 1
    head = reader.head()
    reader.fetch()
    assert len(api.requests) == 1, "nothing is asked where nothing was marked"
    assert reader.head() == head
    for number in range(FEW + 50):
        changed = in_namespace("a", f"m{number:03}")
        changed["spec"] = {"title": "again"}
        api.put(changed)
    api.requests.clear()
    reader.fetch()
    assert len(api.requests) < FEW


def test_what_a_schedule_makes_stands_beside_it_and_is_no_declaration(world: ClusterWorld) -> None:
    schedule = (
        "apiVersion: remit.dev/v1alpha1\nkind: Schedule\nmetadata: {name: hourly}\n"
        'spec: {schedule: "0 * * * *", missionTemplate: '
        "{spec: {title: Look, agentRef: {name: worker}, review: None}}}\n"
    )
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "s.yaml": schedule})
    world.sync()
    world.advance(3700)
    world.write_status()
    (made,) = [m for m in world.everything() if m.kind == "Mission"]
    shown = world.shown("Mission", made.name)
    assert shown["metadata"]["labels"][objects.MADE_BY] == "remit"
    (owner,) = shown["metadata"]["ownerReferences"]
    assert owner["uid"] == world.shown("Schedule", "hourly")["metadata"]["uid"]
    assert shown["status"]["state"] == made.state
    world.reader.doubt()
    world.sync()
    assert world.source.units[0].objects == 3, "executor, agent and schedule"
    world.api.remove(("missions", "default", made.name))
    world.elapsed_s += 601
    world.write_status()
    assert world.api.find("Mission", made.name) is not None, "it is a view: who deletes it finds it there again"


def test_a_name_that_the_engine_made_is_not_written_over_what_somebody_declares(world: ClusterWorld) -> None:
    world.act("Mission", "theirs", {"title": "made by command", "review": "None"})
    world.commit({"t.yaml": mission("theirs", agent=None, title="declared")})
    world.sync()
    world.write_status()
    assert world.shown("Mission", "theirs")["spec"]["title"] == "declared"


@pytest.mark.parametrize(
    "text", ["plain", "two\nlines", "\x7f\x85\u2028\ufeff", "\U0001f600 'quoted' \"twice\"", "{a: b}"]
)
def test_any_text_comes_through_as_it_is(text: str, backend: str) -> None:
    document = in_namespace("a", "m")
    document["spec"] = {"title": "t", "description": text}
    known = objects.known({**document, "status": {"x": 1}}, "Mission")
    compiled = compile_blob(known.content, known.path)
    assert compiled.diagnostics == ()
    ((declared, _),) = compiled.declared
    assert declared.spec["description"] == text
