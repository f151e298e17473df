"""The cluster that tests lean on is a real one: kubectl, RBAC and custom resources behind one address."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.fakes import kubernetes
from tests.fakes.kubernetes_project import READER_TOKEN, Place

pytestmark = pytest.mark.xdist_group("kubernetes")

MISSION = """
apiVersion: remit.dev/v1alpha1
kind: Mission
metadata: {name: kept, namespace: outlives}
spec: {agentRef: {name: a}, title: Kept}
"""


def test_custom_resources_outlive_a_restart_and_rbac_holds_for_them(kube: Place, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        own = {READER_TOKEN: ("reader",)}
        # Where the cluster is not ours to restart, another one.
        servers = kube.servers or stack.enter_context(kubernetes.cluster(tmp_path / "kube", own))
        kubectl = servers.cluster.kubectl
        kubectl("create", "namespace", "outlives")
        kubectl("apply", "-f", "-", stdin=MISSION)
        servers.restart()
        assert "mission.remit.dev/kept" in kubectl("get", "-n", "outlives", "missions", "-o", "name")
        assert "Forbidden" in kubectl("get", "-n", "outlives", "missions", token=READER_TOKEN, check=False)
