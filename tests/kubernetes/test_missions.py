"""Missions that are declared in a cluster run, and the cluster shows how they fare."""

from __future__ import annotations

import pytest

from tests.fakes.kubernetes_project import ClusterProject

pytestmark = pytest.mark.xdist_group("kubernetes")

FLEET = """
apiVersion: remit.dev/v1alpha1
kind: Executor
metadata: {name: local}
spec:
  type: Command
  command: {argv: [sh, -c, "echo done"], outputFormat: Text}
---
apiVersion: remit.dev/v1alpha1
kind: Agent
metadata: {name: worker}
spec: {executorRef: {name: local}}
"""


def mission(name: str, **spec: str) -> str:
    """A mission for the worker, as YAML."""
    fields = "".join(f", {key}: {value}" for key, value in spec.items())
    return (
        f"apiVersion: remit.dev/v1alpha1\nkind: Mission\nmetadata: {{name: {name}}}\n"
        f"spec: {{title: {name}, agentRef: {{name: worker}}, review: None{fields}}}\n"
    )


def test_a_mission_that_is_applied_by_kubectl_runs_and_shows_that_it_succeeded(project: ClusterProject) -> None:
    project.apply(FLEET, mission("first"))
    project.engine()
    project.kubectl("wait", "--for=condition=Succeeded", "mission/first", "--timeout=100s")
    status = project.shows("first", "Done")
    assert status["observedGeneration"] == 1
