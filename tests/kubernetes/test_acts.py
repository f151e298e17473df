"""Acts by kubectl on a real API server, with the manifests of the installation and a `remit run` behind the webhook:
who did it, who may, and that nothing is let through while the engine cannot be asked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from controllers.web.kubernetes import connect
from schemas.base import Key
from schemas.resource import Resource
from tests.fakes import kubernetes
from tests.fakes.admitted import Document, decision
from tests.fakes.engine_process import free_port, until
from tests.fakes.kubernetes_project import ENGINE_ACCOUNT, ClusterProject, Place
from tests.fakes.world import agent, executor, mission

pytestmark = pytest.mark.xdist_group("kubernetes")

INSTALL = kubernetes.ROOT / "manifests" / "install"
NAMESPACE = "acts"
ROLES = {"vera": "remit-viewer", "otto": "remit-operator", "ada": "remit-approver", "adam": "remit-admin"}


def objects(text: str) -> list[Document]:
    return [each for each in yaml.safe_load_all(text) if each]


def document(kind: str, name: str, spec: Document) -> Document:
    return {"apiVersion": "remit.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


class Acts(ClusterProject):
    """A namespace whose engine runs as its service account and is asked by the API server; people act in it."""

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "POD_NAMESPACE": "remit-system"}

    def by(self, user: str, *words: str, stdin: str = "") -> str:
        """What kubectl tells somebody, errors included."""
        who = ["--as", user, *(["--as-group", "oncall"] if user == "ada" else [])]
        return self.kubectl(*who, *words, stdin=stdin, check=False)

    def make(self, user: str, made: Document, *words: str) -> str:
        """What somebody is told who creates an object."""
        return self.by(user, "create", *words, "-f", "-", stdin=yaml.safe_dump(made))

    def stored(self, kind: str, name: str) -> Resource | None:
        """What the engine has of an object."""
        with self.look() as snapshot:
            return snapshot.get(Key(kind, self.namespace, name))

    def request(self) -> Resource:
        """The first question that anybody was asked."""

        def asked() -> Resource | None:
            with self.look() as snapshot:
                return next(iter(snapshot.objects("ApprovalRequest")), None)

        found = until(asked, "a review that waits")
        assert found is not None
        return found

    def as_kubeconfig(self, user: str) -> Path:
        """A kubeconfig of somebody's own."""
        config = yaml.safe_load(self.place.kubeconfig.read_text())
        for each in config["users"]:
            each["user"] |= {"as": user, "as-groups": ["oncall", "system:authenticated"]}
        for each in config["contexts"]:
            each["context"]["namespace"] = self.namespace
        path = self.folder / f"kubeconfig-{user}"
        path.write_text(yaml.safe_dump(config))
        return path


@pytest.fixture(scope="module")
def acts(kube: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Acts]:
    """A mission whose review waits; roles, webhooks and the engine's account are those of the installation."""
    for name in ("remit-system", "remit-agents", NAMESPACE):
        kube.kubectl("create", "namespace", name)
    kube.kubectl("label", "namespace", NAMESPACE, "admission=asked")
    kube.kubectl("apply", "-k", str(INSTALL / "rbac"))
    for user, role in ROLES.items():
        kube.kubectl("create", "rolebinding", user, "-n", NAMESPACE, "--clusterrole", role, "--user", user)
    made = Acts(tmp_path_factory.mktemp("acts"), kube, NAMESPACE, make=False, kubeconfig=kube.engine_kubeconfig())
    listen = f"127.0.0.1:{free_port()}"
    admission = {
        "listen": listen,
        "hosts": ["127.0.0.1"],
        "engineUser": ENGINE_ACCOUNT,
        "registration": {"namespace": "remit-system"},
    }
    with (made.root / "remit.yaml").open("a") as file:
        file.write(yaml.safe_dump({"admission": admission}))
    webhooks, secret = objects((INSTALL / "base" / "admission.yaml").read_text())
    for webhook in webhooks["webhooks"]:
        webhook["clientConfig"] = {"url": f"https://{listen}"}  # no pod runs in this cluster
        webhook["namespaceSelector"] = {"matchLabels": {"admission": "asked"}}  # other tests have it, too
    kube.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all([webhooks, secret]))
    try:
        made.engine()
        until(lambda: "caBundle" in kube.kubectl("get", "validatingwebhookconfiguration", "remit", "-o", "yaml"),
              "the engine to write down what the API server shall trust", every_s=0.5)  # fmt: skip
        fleet = [executor().replace('"true"', '"echo done"'), agent(), mission("a", review="Human")]
        until(lambda: "mission.remit.dev/a created" in made.by("adam", "apply", "-f", "-", stdin="---\n".join(fleet)),
              "the API server to use it", every_s=0.5)  # fmt: skip
        yield made
    finally:
        kube.kubectl("delete", "validatingwebhookconfiguration", "remit", check=False)
        made.close()


def test_an_answer_by_kubectl_counts_for_its_user_and_a_forged_name_is_refused(acts: Acts) -> None:
    request = acts.request()
    forged = decision(request, name="forged")
    forged["metadata"].pop("namespace")
    forged["spec"]["decidedBy"] = "user:boss"
    said = acts.by("ada", "apply", "--validate=false", "-f", "-", stdin=yaml.safe_dump(forged))
    assert "spec.decidedBy: unknown field" in said
    wrong = document("ApprovalDecision", "wrong", {**forged["spec"], "actionDigest": "sha256:" + "0" * 64})
    wrong["spec"].pop("decidedBy")
    assert "denied the request: it had no effect: StaleDecision: it answers another action" in acts.make("ada", wrong)
    until(lambda: acts.object("approvalrequest", request.name), "the question to stand in the cluster", every_s=0.5)
    answered = subprocess.run(
        [sys.executable, "-c", "from cli.kubectl import main; main()", "approve", "mission/a", "-n", NAMESPACE],
        env={**os.environ, "KUBECONFIG": str(acts.as_kubeconfig("ada")),
             "PATH": f"{acts.place.program.parent}:{os.environ['PATH']}"},
        cwd=acts.home, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert answered.returncode == 0, answered.stdout + answered.stderr
    acts.kubectl("wait", "--for=condition=Succeeded", "mission/a", "--timeout=100s")
    status = acts.stored("ApprovalRequest", request.name)
    assert status is not None
    assert (status.status["decidedBy"], status.status["decidedVia"]) == ("user:ada", "Kubernetes")
    with acts.look() as snapshot:
        (made,) = snapshot.objects("ApprovalDecision")
        seen = {(event.actor.subject, event.subject.kind) for event in snapshot.events(types=["ActAdmitted"])}
        declared = snapshot.get(Key("Mission", NAMESPACE, "a"))
    assert "oncall" in made.status["groups"]
    assert seen == {("user:ada", "ApprovalDecision"), ("user:adam", "Mission")}
    assert declared is not None
    assert declared.provenance is not None
    assert declared.provenance.signer == "adam"


def test_a_bad_spec_is_refused_at_once_with_the_words_of_the_validator(acts: Acts) -> None:
    wanted = document("Schedule", "bad", {"schedule": "61 * * * *", "missionTemplate": {"spec": {"title": "t"}}})
    assert "denied the request: spec.schedule: " in acts.make("otto", wanted)


def may(acts: Acts, user: str, words: str) -> bool:
    """What the API server says of ``verb resource.group[/sub][:name][@namespace]``."""
    verb, _, what = words.partition(" ")
    what, _, place = what.partition("@")
    what, _, name = what.partition(":")
    what, _, sub = what.partition("/")
    resource, _, group = what.partition(".")
    attributes = {"verb": verb, "resource": resource, "group": group, "subresource": sub, "name": name,
                  "namespace": "" if place == "*" else place or NAMESPACE}  # fmt: skip
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
              "spec": {"user": user, "groups": [], "resourceAttributes": attributes}}  # fmt: skip
    api = connect({"KUBECONFIG": str(acts.place.kubeconfig)})
    try:
        answer = api.ask("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body=review)
    finally:
        api.close()
    return bool(answer["status"]["allowed"])


ALLOWED = {
    "vera": (["watch runs"], ["create missions", "create approvaldecisions"]),
    "otto": (["create missions", "delete holds"], ["create policies", "create runs", "create confirmations"]),
    "ada": (["create approvaldecisions"], ["create missions", "patch approvaldecisions", "create confirmations"]),
    "adam": (["create policies", "create confirmations"], ["create runs", "patch approvaldecisions"]),
}


@pytest.mark.parametrize("user", sorted(ALLOWED))
def test_roles_let_people_do_what_they_are_named_after(acts: Acts, user: str) -> None:
    can, cannot = ALLOWED[user]
    assert [words for words in can if not may(acts, user, f"{words}.remit.dev")] == []
    assert [words for words in cannot if may(acts, user, f"{words}.remit.dev")] == []
    verb, resource = cannot[0].split()
    assert acts.by(user, "auth", "can-i", verb, f"{resource}.remit.dev").split()[-1] == "no"


def test_rbac_denies_what_a_role_does_not_give(acts: Acts) -> None:
    said = acts.make("otto", document("Confirmation", "c", {"planDigest": "sha256:" + "1" * 64}))
    assert 'User "otto" cannot create resource "confirmations"' in said
    assert 'User "vera" cannot' in acts.make("vera", document("Mission", "m", {"title": "t"}))
    hold = document("Hold", "wait", {"selector": {"names": ["worker"]}, "reason": "looks wrong"})
    assert "created" in acts.make("otto", hold)
    until(lambda: acts.stored("Hold", "wait"), "the Hold to be in force", every_s=0.2)
    placed = acts.stored("Hold", "wait")
    assert placed is not None
    assert placed.status["placedBy"] == "user:otto"
    assert 'User "vera" cannot delete' in acts.by("vera", "delete", "hold", "wait")
    assert "deleted" in acts.by("otto", "delete", "hold", "wait")
    until(lambda: acts.stored("Hold", "wait") is None, "the Hold to be released", every_s=0.2)


def test_the_service_account_may_do_no_more_than_the_engine_does(acts: Acts) -> None:
    """That it may do as much is what every other test here shows: the engine is nobody else."""
    can = ["create jobs.batch@remit-agents", "get pods./log@remit-agents", "create secrets.@remit-agents"]
    cannot = [
        "get secrets.@remit-system", "create jobs.batch", "create pods.@remit-agents",
        "update validatingwebhookconfigurations.admissionregistration.k8s.io:other@*", "impersonate users.@*",
        "create clusterrolebindings.rbac.authorization.k8s.io@*",
    ]  # fmt: skip
    assert [words for words in can if not may(acts, ENGINE_ACCOUNT, words)] == []
    assert [words for words in cannot if may(acts, ENGINE_ACCOUNT, words)] == []


def test_nothing_is_decided_while_the_engine_cannot_be_asked_but_work_can_be_stopped(acts: Acts) -> None:
    request = acts.request()
    acts.engines[-1].kill()
    blind = document("ApprovalDecision", "blind", decision(request)["spec"])
    assert "failed calling webhook" in acts.make("ada", blind)
    assert not acts.object("approvaldecision", "blind")
    assert "failed calling webhook" in acts.make("otto", document("Mission", "blind", {"title": "t"}))
    hold = document("Hold", "blind", {"selector": {"names": ["worker"]}, "reason": "nobody answers"})
    assert "created" in acts.make("otto", hold)
    assert "failed calling webhook" in acts.by("otto", "delete", "hold", "blind")


def built(acts: Acts, overlay: str) -> list[Document]:
    return objects(acts.place.kubectl("kustomize", str(INSTALL / "overlays" / overlay)))


def test_every_document_of_an_installation_is_taken_by_the_server(acts: Acts) -> None:
    embedded, shared = built(acts, "embedded"), built(acts, "postgresql")
    crds = [each for each in embedded if each["kind"] == "CustomResourceDefinition"]
    assert len(crds) == len(list((kubernetes.ROOT / "manifests" / "crds").glob("*.yaml"))) - 1
    # Definitions are taken when the cluster starts; a server of 1.20 knows no PodDisruptionBudget of policy/v1.
    rest = [each for each in embedded if each["kind"] not in ("CustomResourceDefinition", "PodDisruptionBudget")]
    rest += [each for each in shared if each not in embedded]
    said = acts.place.kubectl("apply", "--dry-run=server", "--validate=false", "-f", "-",
                              stdin=yaml.safe_dump_all(rest))  # fmt: skip
    assert len([line for line in said.splitlines() if "server dry run" in line]) == len(rest)
    assert {each["kind"] for each in rest} >= {"Deployment", "PersistentVolumeClaim", "NetworkPolicy", "Service"}
