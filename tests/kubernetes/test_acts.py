"""Acts by kubectl on a real API server, with the manifests of the installation and a `remit run` behind the webhook:
who did it, who may, and that nothing is let through while the engine cannot be asked."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from random import SystemRandom
from typing import Any

import httpx2
import pytest
import yaml

from controllers.runtime.clock import SystemClock
from controllers.runtime.ids import IdMint
from schemas.base import Key
from schemas.resource import SYSTEM, Resource
from store import open_store
from tests.fakes import kubernetes
from tests.fakes.admitted import bring, decision, document
from tests.fakes.engine_process import Engine, Project, free_port, until
from tests.fakes.kubernetes import Cluster
from tests.fakes.world import agent, executor, mission

pytestmark = pytest.mark.xdist_group("kubernetes")

INSTALL = kubernetes.ROOT / "manifests" / "install"
ACCOUNT = "system:serviceaccount:remit-system:remit"
USERS = {
    "engine-token": (ACCOUNT, "system:serviceaccounts"),
    "vera-token": ("vera",),
    "otto-token": ("otto",),
    "ada-token": ("ada", "oncall"),
    "adam-token": ("adam",),
}
ROLES = {"vera": "remit-viewer", "otto": "remit-operator", "ada": "remit-approver", "adam": "remit-admin"}


def objects(text: str, *kinds: str) -> list[dict[str, Any]]:
    found = [each for each in yaml.safe_load_all(text) if each]
    return [each for each in found if not kinds or each["kind"] in kinds]


def apply(cluster: Cluster, documents: list[dict[str, Any]], *words: str, token: str = kubernetes.ADMIN) -> str:
    return cluster.kubectl(
        "apply", *words, "-f", "-", stdin=yaml.safe_dump_all(documents), token=token, check=token == kubernetes.ADMIN
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with kubernetes.cluster(tmp_path_factory.mktemp("kubernetes") / "kube", USERS) as servers:
        made = servers.cluster
        names = ("remit-system", "remit-agents")
        apply(made, [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names])
        made.kubectl("apply", "-k", str(INSTALL / "rbac"))
        bindings = [
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": user, "namespace": "default"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
            }
            for user, role in ROLES.items()
        ]
        apply(made, bindings)
        yield made


@pytest.fixture(scope="module")
def project(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A fleet with a mission whose review waits, and an engine that keeps its webhooks in the cluster."""
    made = Project(tmp_path_factory.mktemp("acts"))
    token = made.root / "engine-token"
    token.write_text("engine-token")
    admission = {
        "listen": f"127.0.0.1:{free_port()}",
        "hosts": ["127.0.0.1"],
        "engineUser": ACCOUNT,
        "registration": {
            "namespace": "remit-system",
            "cluster": {"address": cluster.url, "tokenFile": str(token), "caFile": str(cluster.authority.file)},
        },
    }
    with (made.root / "remit.yaml").open("a") as file:
        file.write(yaml.safe_dump({"admission": admission}))
    made.commit(
        {
            "fleet.yaml": "---\n".join(
                [executor().replace('"true"', '"echo done"'), agent(), mission("a", review="Human")]
            )
        }
    )
    documents = objects((INSTALL / "base" / "admission.yaml").read_text())
    for webhook in documents[0]["webhooks"]:
        webhook["clientConfig"] = {"url": f"https://{admission['listen']}"}  # no pod runs in this cluster
    apply(cluster, documents)
    made.engine()
    try:
        until(lambda: "caBundle" in cluster.kubectl("get", "validatingwebhookconfiguration", "remit", "-o", "yaml"),
              "the engine to write down what the API server shall trust")  # fmt: skip
        yield made
    finally:
        made.close()


def engine_of(project: Project) -> Engine:
    return project.engines[-1]


def request_of(project: Project) -> Resource:
    """The request for the review of mission a."""

    def waiting() -> Resource | None:
        with project.look() as snapshot:
            found = snapshot.objects("ApprovalRequest", states=["Pending"])
            return found[0] if found else None

    found = until(waiting, "a review that waits")
    assert found is not None
    return found


def brought(cluster: Cluster, project: Project, kind: str, name: str) -> None:
    """Hand over an act as the cluster has it, as the source of the cluster does."""
    text = cluster.kubectl("get", kind.lower(), name, "-o", "json")
    clock = SystemClock()
    store = open_store(f"sqlite:///{project.database}", now=clock.now, new_id=IdMint(clock.now, SystemRandom()).new)
    try:
        with store.transaction(SYSTEM) as tx:
            bring(tx, [json.loads(text)])
    finally:
        store.close()


def test_an_answer_by_kubectl_counts_for_its_user_and_a_forged_name_is_refused(
    cluster: Cluster, project: Project
) -> None:
    request = request_of(project)
    forged = decision(request, name="forged")
    forged["spec"]["decidedBy"] = "user:boss"
    said = apply(cluster, [forged], "--validate=false", token="ada-token")
    assert "spec.decidedBy: unknown field" in said
    wrong = decision(request, name="wrong", actionDigest="sha256:" + "0" * 64)
    said = apply(cluster, [wrong], token="ada-token")
    assert "denied the request: it had no effect: StaleDecision: it answers another action" in said
    said = apply(cluster, [decision(request)], "--dry-run=server", token="ada-token")
    assert "created (server dry run)" in said
    assert "created" in apply(cluster, [decision(request)], token="ada-token")
    brought(cluster, project, "ApprovalDecision", "mine")

    def decided() -> dict[str, Any]:
        with project.look() as snapshot:
            found = snapshot.get(request.key)
            return found.status if found is not None and found.state != "Pending" else {}

    status = until(decided, "the answer to count")
    assert (status["decidedBy"], status["decidedVia"], status["state"]) == ("user:ada", "Kubernetes", "Approved")
    with project.look() as snapshot:
        made = snapshot.get(Key("ApprovalDecision", "default", "mine"))
        seen = snapshot.events(types=["ActAdmitted"])
    assert made is not None
    assert "oncall" in made.status["groups"]
    assert [event.actor.subject for event in seen] == ["user:ada"]


def test_a_bad_spec_is_refused_at_once_with_the_words_of_the_validator(cluster: Cluster, project: Project) -> None:
    wanted = document("Schedule", "bad", {"schedule": "61 * * * *", "missionTemplate": {"spec": {"title": "t"}}})
    said = apply(cluster, [wanted], token="otto-token")
    assert "denied the request: spec.schedule: " in said


def may(cluster: Cluster, user: str, groups: tuple[str, ...], words: str, namespace: str = "default") -> bool:
    """What the API server says of ``verb resource.group[/sub][:name][@namespace]``."""
    verb, _, what = words.partition(" ")
    what, _, place = what.partition("@")
    what, _, name = what.partition(":")
    what, _, sub = what.partition("/")
    resource, _, group = what.partition(".")
    attributes = {"verb": verb, "resource": resource, "group": group, "subresource": sub, "name": name,
                  "namespace": "" if place == "*" else place or namespace}  # fmt: skip
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
              "spec": {"user": user, "groups": list(groups), "resourceAttributes": attributes}}  # fmt: skip
    trust = ssl.create_default_context(cafile=str(cluster.authority.file))
    headers = {"Authorization": f"Bearer {kubernetes.ADMIN}"}
    with httpx2.Client(verify=trust, trust_env=False, headers=headers) as client:
        answer = client.post(f"{cluster.url}/apis/authorization.k8s.io/v1/subjectaccessreviews", json=review)
    return bool(json.loads(answer.content)["status"]["allowed"])


@pytest.mark.parametrize(
    ("user", "can", "cannot"),
    [
        ("vera", ["get missions", "watch runs"], ["create missions", "create approvaldecisions", "delete holds"]),
        ("otto", ["create missions", "delete holds"], ["create approvaldecisions", "create policies", "create runs",
                                                       "create confirmations", "patch approvaldecisions"]),
        ("ada", ["create approvaldecisions", "list alerts"], ["patch approvaldecisions", "create missions",
                                                              "create confirmations", "delete approvalrequests"]),
        ("adam", ["create policies", "create approvaldecisions", "create confirmations"],
         ["create runs", "patch approvalrequests", "patch approvaldecisions", "update missions/status"]),
    ],
)  # fmt: skip
def test_roles_let_people_do_what_they_are_named_after(
    cluster: Cluster, user: str, can: list[str], cannot: list[str]
) -> None:
    for words in can:
        asked = words.replace("/", ".remit.dev/") if "/" in words else f"{words}.remit.dev"
        assert may(cluster, user, (), asked), words
    for words in cannot:
        asked = words.replace("/", ".remit.dev/") if "/" in words else f"{words}.remit.dev"
        assert not may(cluster, user, (), asked), words
    verb, resource = cannot[0].split()
    said = cluster.kubectl("auth", "can-i", verb, f"{resource}.remit.dev", token=f"{user}-token", check=False)
    assert said.startswith("no")


def test_rbac_denies_what_a_role_does_not_give(cluster: Cluster, project: Project) -> None:
    said = apply(cluster, [document("Confirmation", "c", {"planDigest": "sha256:" + "1" * 64})], token="otto-token")
    assert 'User "otto" cannot create resource "confirmations"' in said
    said = apply(cluster, [document("Mission", "m", {"title": "t"})], token="vera-token")
    assert 'User "vera" cannot' in said
    hold = document("Hold", "stop", {"selector": {"names": ["worker"]}, "reason": "looks wrong"})
    assert "created" in apply(cluster, [hold], token="otto-token")
    assert 'User "vera" cannot delete' in cluster.kubectl("delete", "hold", "stop", token="vera-token", check=False)
    assert "deleted" in cluster.kubectl("delete", "hold", "stop", token="otto-token")


def test_the_service_account_may_do_what_the_engine_does_and_no_more(cluster: Cluster) -> None:
    can = [
        "watch missions.remit.dev@*", "patch missions.remit.dev/status@*", "create runs.remit.dev", "create events.",
        "update leases.coordination.k8s.io@remit-system", "watch namespaces.@*",
        "watch customresourcedefinitions.apiextensions.k8s.io@*", "create jobs.batch@remit-agents",
        "get pods./log@remit-agents", "create secrets.@remit-agents", "get secrets.:remit-admission@remit-system",
        "update validatingwebhookconfigurations.admissionregistration.k8s.io:remit@*",
    ]  # fmt: skip
    cannot = [
        "get secrets.@remit-system", "get secrets.", "create jobs.batch", "create pods.@remit-agents",
        "create approvaldecisions.remit.dev", "create confirmations.remit.dev", "create policies.remit.dev",
        "update validatingwebhookconfigurations.admissionregistration.k8s.io:other@*",
        "create clusterrolebindings.rbac.authorization.k8s.io@*", "impersonate users.@*",
    ]  # fmt: skip
    groups = ("system:serviceaccounts",)
    assert [words for words in can if not may(cluster, ACCOUNT, groups, words)] == []
    assert [words for words in cannot if may(cluster, ACCOUNT, groups, words)] == []


def test_nothing_is_decided_while_the_engine_cannot_be_asked_but_work_can_be_stopped(
    cluster: Cluster, project: Project
) -> None:
    request = request_of_any(project)
    engine_of(project).kill()
    said = apply(cluster, [decision(request, name="blind")], token="ada-token")
    assert "failed calling webhook" in said
    assert "NotFound" in cluster.kubectl("get", "approvaldecision", "blind", check=False)
    said = apply(cluster, [document("Mission", "blind", {"title": "t"})], token="otto-token")
    assert "failed calling webhook" in said
    hold = document("Hold", "blind", {"selector": {"names": ["worker"]}, "reason": "nobody answers"})
    assert "created" in apply(cluster, [hold], token="otto-token")
    said = cluster.kubectl("delete", "hold", "blind", token="otto-token", check=False)
    assert "failed calling webhook" in said
    brought(cluster, project, "Hold", "blind")
    with project.look() as snapshot:
        placed = snapshot.get(Key("Hold", "default", "blind"))
    assert placed is not None
    assert placed.status["placedBy"] == "nobody proven"


def request_of_any(project: Project) -> Resource:
    with project.look() as snapshot:
        return snapshot.objects("ApprovalRequest")[0]


def overlays() -> list[Path]:
    return sorted(path for path in (INSTALL / "overlays").iterdir())


@pytest.mark.parametrize("overlay", overlays(), ids=lambda path: path.name)
def test_every_document_of_an_installation_is_taken_by_the_server(cluster: Cluster, overlay: Path) -> None:
    built = objects(cluster.kubectl("kustomize", str(overlay)))
    rest = [each for each in built if each["kind"] not in ("CustomResourceDefinition", "PodDisruptionBudget")]
    said = apply(cluster, rest, "--dry-run=server", "--validate=false")
    assert len(said.splitlines()) == len(rest)
    crds = [each for each in built if each["kind"] == "CustomResourceDefinition"]
    assert len(crds) == len(list((kubernetes.ROOT / "manifests" / "crds").glob("*.yaml"))) - 1
