"""The cluster that tests lean on is a real one: kubectl, RBAC and custom resources behind one address."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes import kubernetes

pytestmark = pytest.mark.xdist_group("kubernetes")

MISSION = """
apiVersion: remit.dev/v1alpha1
kind: Mission
metadata: {name: kept, namespace: default}
spec: {agentRef: {name: a}, title: Kept}
"""


def test_custom_resources_outlive_a_restart_and_rbac_holds_for_them(tmp_path: Path) -> None:
    with kubernetes.cluster(tmp_path / "kube", {"reader": ("reader",)}) as servers:
        kubectl = servers.cluster.kubectl
        kubectl("apply", "-f", "-", stdin=MISSION)
        servers.restart()
        assert "mission.remit.dev/kept" in kubectl("get", "missions", "-o", "name")
        assert "Forbidden" in kubectl("get", "missions", token="reader", check=False)
