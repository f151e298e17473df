"""Missions that are declared in a cluster run, and the cluster shows how they fare. One engine for all of it."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from controllers.web.kubernetes import APPLY
from tests.fakes import kubernetes_gc
from tests.fakes.engine_process import until
from tests.fakes.kubernetes import ROOT
from tests.fakes.kubernetes_project import ClusterProject, Place
from tests.fakes.repos import ENVIRONMENT

pytestmark = pytest.mark.xdist_group("kubernetes")

FLEET = """
apiVersion: remit.dev/v1alpha1
kind: Executor
metadata: {name: local}
spec:
  type: Command
  command: {argv: [sh, -c, "while test -e $0/hold; do sleep 0.2; done; echo done", EFFECTS], outputFormat: Text}
---
apiVersion: remit.dev/v1alpha1
kind: Agent
metadata: {name: worker}
spec: {executorRef: {name: local}, maxConcurrentMissions: 4}
"""


def mission(name: str, **spec: str) -> str:
    """A mission for the worker, as YAML."""
    fields = "".join(f", {key}: {value}" for key, value in spec.items())
    return (
        f"apiVersion: remit.dev/v1alpha1\nkind: Mission\nmetadata: {{name: {name}}}\n"
        f"spec: {{title: {name}, agentRef: {{name: worker}}, review: None{fields}}}\n"
    )


def fleet(project: ClusterProject) -> str:
    """The worker, and its program: it does not end while a file says so."""
    return FLEET.replace("EFFECTS", str(project.effects))


@pytest.fixture(scope="module")
def project(kube: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterProject]:
    made = ClusterProject(tmp_path_factory.mktemp("missions"), kube, f"missions-{secrets.token_hex(3)}")
    (made.root / "README.md").write_text("# A project\n\nSee [the agent](agent.py). TODO: say more.\n")
    (made.root / "agent.py").write_text("# TODO: everything\nprint('hello')\n")
    for command in (["init", "-q", "-b", "main"], ["add", "README.md", "agent.py"], ["commit", "-q", "-m", "begin"]):
        subprocess.run(["git", *command], cwd=made.root, env=ENVIRONMENT, check=True)
    try:
        made.apply(fleet(made), mission("first"))
        made.engine()
        yield made
        made.is_sound(rests=False)
    finally:
        made.close()


def test_a_mission_that_is_applied_by_kubectl_runs_and_shows_that_it_succeeded(project: ClusterProject) -> None:
    project.kubectl("wait", "--for=condition=Succeeded", "mission/first", "--timeout=100s")
    status = project.shows("first", "Done")
    assert status["observedGeneration"] == 1
    table = project.kubectl("get", "missions,agents")
    assert "first" in table
    assert "Done" in table
    assert "Reconciled" in table
    (run,) = project.listed("runs")
    assert run["status"]["state"] == "Succeeded"
    (owner,) = run["metadata"]["ownerReferences"]
    assert owner["uid"] == project.object("mission", "first")["metadata"]["uid"]


def test_what_happens_stands_among_the_events_of_the_cluster_and_is_counted(project: ClusterProject) -> None:
    def told() -> bool:
        text = project.kubectl("describe", "mission", "first")
        return "Dispatched" in text and "AutoAccepted" in text

    until(told, "the events of the mission", every_s=0.5)
    project.apply(mission("flaky", retry="{maxAttempts: 3, backoff: {initial: 1s, max: 1s}}").replace(
        "{name: worker}", "{name: broken}"), BROKEN)  # fmt: skip

    def counted() -> int:
        events = [e for e in project.listed("events") if e["involvedObject"]["name"] == "flaky"]
        return max((e["count"] for e in events), default=0)

    until(lambda: counted() >= 2, lambda: project.kubectl("get", "events"), every_s=0.5)


BROKEN = """
apiVersion: remit.dev/v1alpha1
kind: Executor
metadata: {name: broken}
spec: {type: Command, command: {argv: [sh, -c, "exit 3"], outputFormat: Text}}
---
apiVersion: remit.dev/v1alpha1
kind: Agent
metadata: {name: broken}
spec: {executorRef: {name: broken}}
"""


def test_an_object_that_is_wrong_says_so_itself_and_keeps_no_other_from_its_place(project: ClusterProject) -> None:
    project.apply(mission("right"), mission("loop", dependsOn="[{name: loop}]"))
    project.shows("right", "Done")
    project.kubectl("wait", "--for=condition=Accepted=false", "mission/loop", "--timeout=60s")
    conditions = project.status("mission", "loop")["conditions"]
    assert {"InvalidSpec"} == {c["reason"] for c in conditions}
    assert any("cycle" in c["message"] or "itself" in c["message"] for c in conditions)
    project.apply(mission("loop"))
    project.shows("loop", "Done")


def test_what_others_write_survives_and_an_edit_is_seen(project: ClusterProject) -> None:
    project.kubectl("label", "mission", "first", "team=a")
    project.kubectl("annotate", "mission", "first", "example.org/note=theirs")
    theirs = {"apiVersion": "remit.dev/v1alpha1", "kind": "Mission", "status": {"theirs": {"kept": True}},
              "metadata": {"name": "first", "namespace": project.namespace}}  # fmt: skip
    with project.api() as api:
        path = f"/apis/remit.dev/v1alpha1/namespaces/{project.namespace}/missions/first/status"
        api.ask("PATCH", path, params={"fieldManager": "theirs"}, body=theirs, kind=APPLY)
    project.kubectl("patch", "mission", "first", "--type=merge", "-p", json.dumps({"spec": {"priority": 90}}))

    def seen() -> bool:
        found = project.object("mission", "first")
        return bool(found["status"]["observedGeneration"] == found["metadata"]["generation"] == 2)

    until(seen, lambda: project.object("mission", "first"), every_s=0.3)
    found = project.object("mission", "first")
    assert found["metadata"]["labels"] == {"team": "a"}
    assert found["metadata"]["annotations"]["example.org/note"] == "theirs"
    assert found["status"]["theirs"] == {"kept": True}
    conditions = {c["type"]: c["status"] for c in found["status"]["conditions"]}
    assert conditions["Outdated"] == "True", "a finished mission that was edited does not run again"


def test_a_storm_of_conflicting_writes_costs_neither_side_anything(project: ClusterProject) -> None:
    names = ["storm-0", "storm-1", "storm-2"]
    project.apply(*(mission(name) for name in names))
    turn = refused = 0
    last: dict[str, str] = {}
    while turn < 12 or not all(project.status("mission", name).get("state") == "Done" for name in names):
        turn += 1
        assert turn < 400, [project.status("mission", name) for name in names]
        for name in names:
            found = project.object("mission", name)
            for mark in (f"{turn}-a", f"{turn}-b"):  # the second is written over what was read before the first
                found["metadata"].setdefault("annotations", {})["example.org/turn"] = mark
                said = project.kubectl("replace", "-f", "-", stdin=json.dumps(found), check=False)
                if "Conflict" in said or "has been modified" in said:
                    refused += 1
                else:
                    assert "replaced" in said, said
                    last[name] = mark
    assert refused >= 12
    for name in names:
        found = project.object("mission", name)
        assert found["metadata"]["annotations"]["example.org/turn"] == last[name]
        conditions = {c["type"]: c["status"] for c in found["status"]["conditions"]}
        assert conditions["Succeeded"] == "True"
        assert found["status"]["observedGeneration"] == found["metadata"]["generation"] == 1

    def runs() -> list[str]:
        found = [run["metadata"]["name"] for run in project.listed("runs")]
        return sorted(run for run in found if run.startswith("storm"))

    until(lambda: runs() == [f"{name}-1" for name in names], lambda: f"one run of each, not {runs()}", every_s=0.3)


def test_a_mission_that_is_deleted_at_work_ends_first_and_takes_its_records_along(project: ClusterProject) -> None:
    hold = project.effects / "hold"
    hold.touch()
    project.apply(mission("busy"))
    project.shows("busy", "InProgress")
    finalizers = ["remit.dev/drain"]
    until(lambda: project.object("mission", "busy")["metadata"].get("finalizers") == finalizers, "the finalizer")
    project.kubectl("delete", "mission", "busy", "--wait=false")

    def blocked() -> str:
        units = project.source().get("units", ())
        return next((plan["digest"] for unit in units for plan in unit["pending"]), "")

    digest = until(blocked, "the deletion of what is at work to wait for a word")
    assert project.object("mission", "busy")["metadata"]["deletionTimestamp"]
    project.good("confirm", digest)
    until(lambda: not project.object("mission", "busy"), "the end of the mission", every_s=0.3)
    hold.unlink()
    assert not project.agents()
    with project.api() as api:
        until(lambda: not [run for run in project.listed("runs") if run["metadata"]["name"] == "busy-1"]
              or kubernetes_gc.collect(api, project.namespace), "the end of its run", every_s=0.3)  # fmt: skip
        until(lambda: not kubernetes_gc.collect(api, project.namespace), "nothing that is owned by nobody")
    assert "busy-1" not in {run["metadata"]["name"] for run in project.listed("runs")}
    assert "first-1" in {run["metadata"]["name"] for run in project.listed("runs")}


def test_the_starter_fleet_works_in_a_cluster(project: ClusterProject) -> None:
    project.kubectl("apply", "-R", "-f", str(ROOT / "specs" / "starter"))
    for name in ("audit-markers", "build-index", "check-links", "write-digest"):
        project.shows(name, "Done")
    project.shows("tag-release", "NeedsApproval")
    requests = until(lambda: project.listed("approvalrequests"), "the question to a person", every_s=0.5)
    assert "Pending" in {request["status"].get("state") for request in requests}
    assert Path(project.root / ".remit").is_dir()
