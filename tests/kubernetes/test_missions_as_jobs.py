"""Missions of a cluster that run as Jobs of the same cluster, by an engine with no more rights than the installation
gives it: from `kubectl apply` to Done, and `kubectl delete` to nothing."""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controllers.web.kubernetes import connect
from tests.e2e.fleet import PROGRAMS, agent, document
from tests.fakes import kubernetes, kubernetes_gc
from tests.fakes.engine_process import until
from tests.fakes.kubelet import Kubelet, kubelet
from tests.fakes.kubernetes_project import ENGINE_TOKEN, ClusterProject, Place
from tests.fakes.secrets import private

pytestmark = pytest.mark.xdist_group("kubernetes")
RIGHTS = kubernetes.ROOT / "manifests" / "install" / "rbac"


@pytest.fixture
def node(kube: Place) -> Iterator[Kubelet]:
    if kube.servers is None:
        pytest.skip("the cluster of KUBECONFIG has kubelets of its own, and no image to run here")
    with kubelet(kube.servers.cluster) as made:
        yield made


@pytest.fixture
def project(kube: Place, tmp_path: Path) -> Iterator[ClusterProject]:
    """A namespace where the engine lives and makes Jobs, with the rights that manifests/install gives it in two."""
    assert kube.servers is not None
    for name in ("remit-system", "remit-agents"):
        kube.kubectl("create", "namespace", name, check=False)  # another test may have
    kube.kubectl("apply", "-k", str(RIGHTS))
    namespace = f"as-jobs-{secrets.token_hex(3)}"
    made = ClusterProject(tmp_path, kube, namespace, kubeconfig=kube.engine_kubeconfig())
    rights = [each for each in yaml.safe_load_all((RIGHTS / "engine.yaml").read_text())
              if each["kind"] in ("Role", "RoleBinding")]  # fmt: skip
    for each in rights:
        each["metadata"]["namespace"] = namespace
    made.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(rights))
    account = {
        "address": kube.servers.cluster.url,
        "caFile": str(kube.servers.cluster.authority.file),
        "tokenFile": str(private(made.root / "token", ENGINE_TOKEN)),
    }
    with (made.root / "remit.yaml").open("a") as file:
        file.write(yaml.safe_dump({"secrets": {"kubernetesSecret": account}}))
    try:
        yield made
    finally:
        made.close()


def fleet(project: ClusterProject) -> list[str]:
    """An executor of Jobs as the engine's own account, and an agent of it."""
    program = [sys.executable, "-P", str(PROGRAMS / "pod.py")]
    environment = [{"name": "PYTHONPATH", "value": project.environment.get("PYTHONPATH", "")}]
    container = {"name": "agent", "image": "any:1", "command": program, "env": environment}
    block = {"podTemplate": {"spec": {"containers": [container]}}}
    return [document("Executor", "pods", {"type": "KubernetesJob", "kubernetesJob": block}), agent("indexer", "pods")]


def mission(project: ClusterProject, name: str, do: str) -> str:
    given = {"effects": str(project.effects), "do": do}
    spec = {"title": f"do {name}", "agentRef": {"name": "indexer"}, "review": "None", "input": given}
    return document("Mission", name, spec)


def owner_of(found: dict[str, Any]) -> tuple[str, str]:
    (owner,) = found["metadata"]["ownerReferences"]
    return owner["kind"], owner["uid"]


def test_a_mission_of_a_cluster_is_a_job_there_and_goes_with_all_that_it_owns(
    node: Kubelet, project: ClusterProject
) -> None:
    project.apply(*fleet(project), mission(project, "index", "done"))
    project.engine()
    until(
        lambda: project.status("mission", "index").get("state") == "Done",
        lambda: project.kubectl("get", "missions,executors,agents,runs,jobs,pods", "-o", "yaml"), every_s=0.5,
    )  # fmt: skip
    project.kubectl("wait", "--for=condition=Succeeded", "mission/index", "--timeout=60s")
    status = project.status("mission", "index")
    assert status["observedGeneration"] == 1
    uid = project.object("mission", "index")["metadata"]["uid"]
    (job,) = project.listed("jobs")
    (run,) = project.listed("runs")
    assert owner_of(job) == owner_of(run) == ("Mission", uid)
    assert run["status"]["job"]["name"] == job["metadata"]["name"]
    assert (project.effects / "index").read_text().split() == [run["metadata"]["annotations"]["remit.dev/uid"]]
    until(lambda: not project.listed("secrets"), "the token to go with its run", every_s=0.3)

    project.apply(mission(project, "busy", "sleep"))
    project.shows("busy", "InProgress")
    until(lambda: project.status("run", "busy-1").get("state") == "Running", "the pod to run", every_s=0.3)
    project.kubectl("delete", "mission", "index", "--wait=false")
    until(lambda: not project.object("mission", "index"), "the mission that is over to go", every_s=0.3)
    project.kubectl("delete", "mission", "busy", "--wait=false")

    def waiting() -> str:
        units = project.source().get("units", ())
        return next((plan["digest"] for unit in units for plan in unit["pending"]), "")

    digest = until(waiting, "the deletion of what is at work to wait for a word")
    assert "busy" in {job["metadata"]["labels"]["remit.dev/mission"] for job in project.listed("jobs")}
    project.good("confirm", digest)
    api = connect({"KUBECONFIG": str(project.place.kubeconfig)})  # the collector has rights of its own
    with contextlib.closing(api):
        until(lambda: not project.listed("missions"), "the mission at work to go", every_s=0.3)
        until(lambda: not (kubernetes_gc.collect(api, project.namespace) or left(project)), lambda: left(project),
              every_s=0.5)  # fmt: skip


def left(project: ClusterProject) -> list[str]:
    """What is there of runs."""
    kinds = ("jobs", "pods", "runs", "secrets")
    return [f"{kind}/{found['metadata']['name']}" for kind in kinds for found in project.listed(kind)]
