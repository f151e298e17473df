"""The CRDs before real API servers: taken as they are, structural, with today's rules of cost; every example of the
documentation is a resource that they take, and what is plainly wrong is refused with our words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import yaml

from schemas import crd
from schemas.base import API_VERSION
from tests.fakes.kubernetes import ROOT, Cluster, Extensions, apiextensions_server, kube_apiserver, pause

pytestmark = pytest.mark.xdist_group("kubernetes")
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture(scope="module")
def extensions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Extensions]:
    with apiextensions_server(tmp_path_factory.mktemp("extensions")) as server:
        for definition in crd.definitions():
            status, answer = server.send("POST", CRDS, definition)
            assert status == 201, (definition["metadata"]["name"], answer["message"])
        yield server


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with kube_apiserver(tmp_path_factory.mktemp("cluster")) as made:
        manifests = made.folder / "crds.yaml"
        manifests.write_text(yaml.safe_dump_all(crd.definitions()))
        # This server is older than CEL: it drops the rules, and would refuse them by server-side apply.
        made.kubectl("create", "--validate=false", "-f", str(manifests))
        wait = ("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        ends = time.monotonic() + 120
        # kubectl stumbles over a definition that has no conditions yet.
        while "error" in made.kubectl(*wait, check=False):
            assert time.monotonic() < ends
            pause()
        yield made


def examples() -> list[dict[str, Any]]:
    found = []
    for path in sorted((ROOT / "specs").rglob("*.yaml")):
        found += [d for d in yaml.safe_load_all(path.read_text()) if d and d.get("apiVersion") == API_VERSION]
    return found


def place(document: dict[str, Any]) -> str:
    info = next(d for d in crd.definitions() if d["spec"]["names"]["kind"] == document["kind"])
    names = info["spec"]["names"]
    where = ""
    if info["spec"]["scope"] == "Namespaced":
        where = f"/namespaces/{document['metadata'].get('namespace', 'default')}"
    return f"/apis/{API_VERSION}{where}/{names['plural']}"


def put(server: Extensions, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """What the server says of it, once it says something: a busy one does not serve a definition at once, or is short
    of time."""
    ends = time.monotonic() + 120
    while True:
        try:
            status, answer = server.send("POST", f"{place(document)}?fieldValidation=Strict", document)
        except httpx2.TransportError as error:
            status, answer = 503, {"message": repr(error)}
        if status not in (404, 429) and status < 500:
            return status, answer
        assert time.monotonic() < ends, (document, status, answer)
        pause()


def test_todays_server_takes_every_definition_as_structural(extensions: Extensions) -> None:
    ends = time.monotonic() + 60
    while True:
        _, answer = extensions.send("GET", CRDS)
        conditions = [{c["type"]: c for c in (item["status"].get("conditions") or ())} for item in answer["items"]]
        if all(found.get("Established", {}).get("status") == "True" for found in conditions):
            break
        assert time.monotonic() < ends, conditions
        pause()
    assert len(conditions) == len(crd.SERVED)
    for found in conditions:
        assert "NonStructuralSchema" not in found, found["NonStructuralSchema"]["message"]
        assert found["NamesAccepted"]["status"] == "True"


def test_every_example_is_a_resource_that_todays_server_takes_strictly(extensions: Extensions) -> None:
    taken = 0
    for document in examples():
        status, answer = put(extensions, document)
        assert status == 201 or answer.get("reason") == "AlreadyExists", (document, answer.get("message"))
        taken += 1
    assert taken > 40


@pytest.mark.parametrize(
    ("kind", "spec", "words"),
    [
        ("Executor", {"type": "Command"}, "type Command needs the block command"),
        ("Executor", {"type": "Carrier"}, "Unsupported value"),
        ("Budget", {"scope": {"tenant": True, "missionType": "Ops"}, "limits": {"usd": 1}}, "name exactly one of"),
        ("Mission", {"title": "t", "dependsOn": [{}]}, "name: Required value"),
        ("Mission", {"title": "t", "bogus": 1}, "unknown field"),
        ("Mission", {"title": "t", "priority": "soon"}, "(High|Medium|Low)"),
        ("Mission", {"title": "t", "priority": 101}, "less than or equal to 100"),
    ],
)
def test_what_is_plainly_wrong_is_refused_with_a_reason(
    extensions: Extensions, kind: str, spec: dict[str, Any], words: str
) -> None:
    document = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "wrong"}, "spec": spec}
    status, answer = put(extensions, document)
    assert status in (400, 422), answer
    assert words in answer["message"]


def test_an_act_is_made_once(extensions: Extensions) -> None:
    spec = {"requestRef": {"name": "x", "uid": "u"}, "actionDigest": "sha256:" + "0" * 64, "verdict": "Approve"}
    document = {"apiVersion": API_VERSION, "kind": "ApprovalDecision", "metadata": {"name": "once"}, "spec": spec}
    status, made = put(extensions, document)
    assert status == 201, made
    made["spec"]["verdict"] = "Deny"
    status, answer = extensions.send("PUT", f"{place(document)}/once", made)
    assert status == 422
    assert "verdict cannot be changed: an act is made once" in answer["message"]


def test_defaults_stand_in_the_stored_object(extensions: Extensions) -> None:
    spec = {"schedule": "@daily", "missionTemplate": {"spec": {"title": "t"}}}
    document = {"apiVersion": API_VERSION, "kind": "Schedule", "metadata": {"name": "daily"}, "spec": spec}
    _, made = put(extensions, document)
    assert made["spec"]["timeZone"] == "UTC"
    assert made["spec"]["missionTemplate"]["spec"]["review"] == "Human"


def test_the_whole_api_server_takes_them_too_and_kubectl_explains_them(cluster: Cluster) -> None:
    """No resource is made here: a kube-apiserver 1.20 that was built by Go 1.18 or newer, as the one at hand was, dies
    of the first custom resource of any kind, in a library that looks into Go's own maps."""
    known = cluster.kubectl("api-resources", "--api-group", "remit.dev", "-o", "name").split()  # learns of them, too
    asked = ("explain", "schedules.spec.schedule", "--api-version", API_VERSION)
    ends = time.monotonic() + 120
    while "Five fields" not in (said := cluster.kubectl(*asked, check=False)):  # published a while after
        assert time.monotonic() < ends, said
        pause()
    assert sorted(known) == sorted(d["metadata"]["name"] for d in crd.definitions())
    assert "No resources found" in cluster.kubectl("get", "sched", "-A")


def test_the_printed_columns_are_those_of_the_command() -> None:
    (mission,) = crd.definitions(["Mission"])
    columns = mission["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [c["jsonPath"] for c in columns if not c.get("priority")] == [
        ".status.state", ".status.agent.name", ".spec.priority", ".status.attempts",
        ".status.blockedOn[0].hint", ".metadata.creationTimestamp",
    ]  # fmt: skip
    assert crd.json_path("status.conditions[Ready].status") == '.status.conditions[?(@.type=="Ready")].status'
