"""Real engines on a real cluster: a namespace of a cluster, and `remit` processes whose specs and status live in it."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from controllers.web.kubernetes import Cluster, connect
from tests.fakes import kubernetes
from tests.fakes.engine_process import Project, until

ENGINE_ACCOUNT = "system:serviceaccount:remit-system:remit"
"""Who the engine is where manifests/install was applied."""
ENGINE_TOKEN = "engine-token"
READER_TOKEN = "reader-token"
"""Of somebody who may do nothing."""


@dataclass(frozen=True, slots=True)
class Place:
    """A cluster, by its kubeconfig. ``servers`` is None where it is not ours to restart."""

    kubeconfig: Path
    program: Path
    servers: kubernetes.Servers | None = None

    def engine_kubeconfig(self) -> Path:
        """That of an engine with the rights of its service account; where the cluster is not ours, with all of them."""
        return self.kubeconfig if self.servers is None else self.servers.cluster.kubeconfig(ENGINE_TOKEN)

    def kubectl(self, *words: str, stdin: str = "", check: bool = True) -> str:
        """What kubectl prints, errors included."""
        done = subprocess.run(
            [str(self.program), "--kubeconfig", str(self.kubeconfig), *words],
            input=stdin, capture_output=True, text=True, timeout=120,
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(self.kubeconfig.parent)},
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@contextlib.contextmanager
def place(folder: Path) -> Iterator[Place]:
    """The cluster of KUBECONFIG where there is one, with Remit's definitions installed; else one of our own."""
    given = os.environ.get("KUBECONFIG")
    if given:
        found = Place(Path(given), Path("kubectl"))
        definitions = str(kubernetes.ROOT / "manifests" / "crds")
        found.kubectl("apply", "--server-side", "--force-conflicts", "--validate=false", "-k", definitions)
        yield found
        return
    users = {ENGINE_TOKEN: (ENGINE_ACCOUNT, "system:serviceaccounts"), READER_TOKEN: ("reader",)}
    with kubernetes.cluster(folder, users) as servers:
        yield Place(servers.cluster.kubeconfig(), servers.cluster.programs / "kubectl", servers)


_shared: list[Place] = []
_open = contextlib.ExitStack()
atexit.register(_open.close)


def shared() -> Place:
    """One cluster for all who ask, until ``close_shared`` or the end of this process."""
    if not _shared:
        folder = _open.enter_context(tempfile.TemporaryDirectory(prefix="remit-kube-"))
        _shared.append(_open.enter_context(place(Path(folder))))
    return _shared[0]


def close_shared() -> None:
    """End the shared cluster: its servers are never idle. Who asks again gets another one."""
    _shared.clear()
    _open.close()


class ClusterProject(Project):
    """Engines that follow one namespace of a cluster."""

    def __init__(
        self, folder: Path, place: Place, namespace: str, *, config: dict[str, Any] | None = None, store: str = "",
        kubeconfig: Path | None = None, make: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(folder, make=False, store=store)
        self.place = place
        self.namespace = namespace
        self.kubeconfig = kubeconfig or place.kubeconfig
        if make:
            place.kubectl("create", "namespace", namespace)
        source = {"namespaces": [namespace], **(config or {})}
        document = {
            "source": {"kubernetes": source},
            "agentListen": f"127.0.0.1:{self.port}",
            "listen": f"127.0.0.1:{self.read_port}",
        }
        (self.root / "remit.yaml").write_text(yaml.safe_dump(document))

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "KUBECONFIG": str(self.kubeconfig), "POD_NAMESPACE": self.namespace}

    def kubectl(self, *words: str, stdin: str = "", check: bool = True) -> str:
        """kubectl in the namespace."""
        return self.place.kubectl("-n", self.namespace, *words, stdin=stdin, check=check)

    def apply(self, *documents: str) -> None:
        """Declare objects."""
        self.kubectl("apply", "-f", "-", stdin="\n---\n".join(documents))

    def object(self, kind: str, name: str) -> dict[str, Any]:
        """An object of the cluster; {} when it is not there."""
        text = self.kubectl("get", kind, name, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else {}  # type: ignore[no-any-return]

    def listed(self, kind: str) -> list[dict[str, Any]]:
        """All objects of a kind."""
        return json.loads(self.kubectl("get", kind, "-o", "json"))["items"]  # type: ignore[no-any-return]

    def status(self, kind: str, name: str) -> dict[str, Any]:
        """Status of an object of the cluster."""
        return self.object(kind, name).get("status") or {}

    def shows(self, name: str, state: str) -> dict[str, Any]:
        """Wait until the cluster shows a mission in a state; its status."""

        def there() -> dict[str, Any]:
            found = self.status("mission", name)
            return found if found.get("state") == state else {}

        return until(there, lambda: f"mission {name} to show {state}, not {self.status('mission', name)}", every_s=0.3)

    @contextlib.contextmanager
    def api(self) -> Iterator[Cluster]:
        """The API as an engine has it."""
        found = connect(self.environment)
        try:
            yield found
        finally:
            found.close()
