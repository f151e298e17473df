"""Runs as Jobs, before a real API server: a real engine with no more rights than the how-to page gives it, and what
comes of missions that go well, fail, are canceled, or whose engine is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.fleet import PROGRAMS, agent, document, together
from tests.fakes import kubelet as kubelets
from tests.fakes.engine_process import REMIT, Project, until
from tests.fakes.kubelet import Kubelet, kubelet
from tests.fakes.kubernetes import ROOT, Cluster, kube_apiserver
from tests.fakes.secrets import private

pytestmark = pytest.mark.xdist_group("kubernetes")
TOKEN = "token-of-the-engine-of-a-test"
SPACE = "agents"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    users = {TOKEN: ("remit-jobs",)}
    with kube_apiserver(tmp_path_factory.mktemp("cluster"), users, kubelets.FLAGS) as made:
        made.kubectl("create", "namespace", SPACE)
        made.kubectl("apply", "-f", "-", stdin=rights())
        yield made


@pytest.fixture
def node(cluster: Cluster) -> Iterator[Kubelet]:
    with kubelet(cluster) as made:
        yield made
        cluster.kubectl("delete", "jobs", "--all", "-n", SPACE, "--wait=false")
        kubelets.until_gone(made)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    try:
        yield made
    finally:
        made.close()


def rights() -> str:
    """What the how-to page says that the engine needs."""
    page = (ROOT / "docs" / "howto" / "run-agents-as-jobs.md").read_text()
    (block,) = [b.partition("```")[0] for b in page.split("```yaml kubernetes\n")[1:] if "kind: Role\n" in b]
    return block


def kubeconfig(cluster: Cluster) -> str:
    """One that holds everything itself, as the executor wants it."""
    return cluster.kubectl("config", "view", "--flatten", "--raw", token=TOKEN)


def fleet(project: Project, cluster: Cluster, **job: Any) -> str:
    """An executor of Jobs, and an agent of it whose program is a process here."""
    private(project.root / "kubeconfig", kubeconfig(cluster))
    program = [sys.executable, "-P", str(PROGRAMS / "pod.py")]
    environment = [{"name": "PYTHONPATH", "value": project.environment.get("PYTHONPATH", "")}]
    container = {"name": "agent", "image": "any:1", "command": program, "env": environment}
    block = {
        "kubeconfig": {"file": "kubeconfig"}, "namespace": SPACE, "pollInterval": "200ms",
        "podTemplate": {"spec": {"containers": [container]}}, **job,
    }  # fmt: skip
    spec = {"type": "KubernetesJob", "kubernetesJob": block}
    return together(
        document("Executor", "pods", spec),
        document("Executor", "hasty", {**spec, "timeout": "3s"}),
        agent("indexer", "pods", places=8),
        agent("hasty", "hasty"),
    )


def mission(project: Project, name: str, do: str, **spec: Any) -> str:
    given = {"effects": str(project.effects), "do": do}
    fields = {"title": f"do {name}", "agentRef": {"name": "indexer"}, "review": "None", "input": given, **spec}
    return document("Mission", name, fields)


def ends(project: Project, run: str, state: str) -> dict[str, Any]:
    """The status of a run, once it is in this state."""

    def there() -> dict[str, Any] | None:
        found = project.find("Run", run)
        return found.status if found is not None and found.state == state else None

    def shown() -> object:
        found = project.find("Run", run)
        return f"{run} to be {state}: {json.dumps(found.status if found else None, indent=1)}"

    return until(there, shown)


def starts(project: Project, name: str) -> list[str]:
    path = project.effects / name
    return path.read_text().split() if path.exists() else []


def test_missions_run_as_jobs_once_each_and_each_end_is_told_for_what_it_is(
    project: Project, cluster: Cluster, node: Kubelet
) -> None:
    names = {"good": "done", "bad": "exit", "fat": "memory", "unwanted": "sleep"}
    once = {"retry": {"maxAttempts": 1}}
    missions = [mission(project, name, do, **once) for name, do in names.items()]
    node.held.update(names)
    project.commit({"fleet.yaml": fleet(project, cluster), "missions.yaml": together(*missions)})
    engine = project.engine(ready=False)
    until(node.jobs, "a Job")
    engine.kill()
    before = {mission_of(job): job["metadata"]["uid"] for job in node.jobs()}
    project.engine(ready=False)
    until(lambda: len(node.jobs()) == len(names), "every Job")
    assert before.items() <= {mission_of(job): job["metadata"]["uid"] for job in node.jobs()}.items()
    node.held.clear()

    good = ends(project, "good-1", "Succeeded")
    assert good["deliverable"]["text"] == "indexed"
    assert good["spend"]["usd"] == "0.25"
    assert good["job"]["namespace"] == SPACE
    project.comes_to("good", "Done")
    bad = ends(project, "bad-1", "Failed")
    assert (bad["reason"], bad["exitCode"]) == ("NonZeroExit", 3)
    fat = ends(project, "fat-1", "Failed")
    assert (fat["reason"], fat["message"]) == ("Killed", "out of memory (OOMKilled)")

    until(lambda: starts(project, "unwanted"), "the pod to run")
    slow = mission(project, "slow", "sleep", agentRef={"name": "hasty"}, **once)
    stopped = together(*missions).replace('"do unwanted"', '"no"\n  desiredState: Canceled')
    project.commit({"missions.yaml": stopped, "slow.yaml": slow})
    assert ends(project, "unwanted-1", "Canceled")["reason"] == "Canceled"
    assert "unwanted" not in {mission_of(job) for job in node.jobs()}

    assert ends(project, "slow-1", "TimedOut")["reason"] == "DeadlineExceeded"
    assert {name: len(starts(project, name)) for name in names} == dict.fromkeys(names, 1)
    printed = project.good("logs", "run/bad-1")
    assert "working on do bad" in printed
    assert "rmt_run_" not in printed
    assert "rmt_run_" not in json.dumps([node.jobs(), node.pods()])
    until(lambda: not node.secrets(SPACE), "the Secrets to go")
    left = {mission_of(job): job["spec"] for job in node.jobs()}
    assert (left["good"]["ttlSecondsAfterFinished"], left["good"]["backoffLimit"]) == (3600, 0)


def test_an_end_is_heard_and_what_a_pod_says_can_be_read_while_it_runs(
    project: Project, cluster: Cluster, node: Kubelet
) -> None:
    """Nothing here is found out by looking: that takes an hour."""
    patient = fleet(project, cluster, pollInterval="1h")
    project.commit({"fleet.yaml": patient, "missions.yaml": mission(project, "told", "wait")})
    engine = project.engine(ready=False)
    ends(project, "told-1", "Running")
    with (project.folder / "printed").open("w") as out:
        reading = subprocess.Popen(
            [str(REMIT), "logs", "run/told-1", "-f"], cwd=project.root, env=project.environment, stdout=out
        )
    try:
        until(lambda: "working on do told" in kept(project, "told-1"), "what the pod says")
        assert "told to go on" not in kept(project, "told-1")
        engine.kill()
        heard = node.followed
        project.engine(ready=False)
        until(lambda: node.followed > heard, "the pod to be listened to again")
        (project.effects / "go").touch()
        ends(project, "told-1", "Succeeded")
        project.comes_to("told", "Done")
        assert reading.wait(timeout=60) == 0
    finally:
        reading.kill()
        reading.wait()
    for text in ((project.folder / "printed").read_text(), project.good("logs", "run/told-1")):
        assert [text.count(line) for line in ("working on do told", "told to go on")] == [1, 1]
        assert "rmt_run_" not in text


def kept(project: Project, run: str) -> str:
    """What is kept of the log of a run so far."""
    found = project.find("Run", run)
    path = project.root / ".remit" / "runs" / (found.uid if found else "") / "stdout.log"
    return path.read_text() if path.is_file() else ""


def mission_of(job: dict[str, Any]) -> str:
    return str(job["metadata"]["labels"]["remit.dev/mission"])


def test_the_role_of_the_howto_lets_nobody_read_what_is_not_of_a_job(cluster: Cluster) -> None:
    allowed = yaml.safe_load(rights().split("---")[0])["rules"]
    verbs = {resource: set(rule["verbs"]) for rule in allowed for resource in rule["resources"]}
    assert "list" not in verbs["secrets"]
    assert "create" not in verbs["pods"]
    assert "no" in cluster.kubectl("auth", "can-i", "list", "secrets", "-n", SPACE, token=TOKEN, check=False)
