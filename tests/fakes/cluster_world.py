"""A world whose specs and status are in a cluster: the real reader and writer over the API in memory."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from random import Random
from typing import Any

import yaml

from controllers.runtime.blocking import InlineBlocking
from controllers.sources.kubernetes import KubernetesReader, Scope
from controllers.sources.readers import Readers
from controllers.status.kubernetes import ClusterStatus
from controllers.wiring import DEFAULT_SOURCE
from schemas.config import KubernetesSource
from schemas.source import SourceSpec
from tests.fakes.kubernetes_api import FakeApi, Place, place_of
from tests.fakes.world import World


class ClusterWorld(World):
    """A commit is applied as ``kubectl apply`` would, object by object; what a file no longer declares is deleted."""

    def __post_init__(self) -> None:
        self.unit = "default"
        self.api = self._make_api()
        self.files: dict[str, set[Place]] = {}
        self.deaf = False
        self.elapsed_s = 0.0
        if isinstance(self.api, FakeApi):
            self.api.listeners.append(self._hear)
        self.threads = concurrent.futures.ThreadPoolExecutor(1)
        super().__post_init__()

    def _make_api(self) -> Any:
        return FakeApi()

    def _scope(self) -> Scope:
        return Scope()

    def _make_spec(self) -> SourceSpec:
        return KubernetesSource().to_spec()

    def _make_readers(self) -> Readers:
        self.reader = KubernetesReader(self.api, self._scope(), monotonic=lambda: self.elapsed_s)
        return Readers(self.folder, self.folder / "mirrors", self.reader)

    def _restart(self) -> None:
        super()._restart()
        self.writer = ClusterStatus(
            self.store, DEFAULT_SOURCE, self.reader, clock=_Moments(self), blocking=InlineBlocking(),
            random=Random(1),
        )  # fmt: skip

    def _hear(self, kind: str, type_: str, document: dict[str, Any]) -> None:
        if not self.deaf:
            self.reader.mark(kind, document, gone=type_ == "DELETED")

    def commit(
        self, files: dict[str, str] | None = None, *, delete: tuple[str, ...] = (), message: str = "change"
    ) -> str:
        """Declare what the files say, and take away what they no longer do."""
        for name, text in (files or {}).items():
            documents = [each for each in yaml.safe_load_all(text) if each]
            now = {place_of(each) for each in documents}
            for gone in self.files.get(name, set()) - now:
                self.api.remove(gone)
            self.files[name] = now
            for each in documents:
                meta = each["metadata"]
                if place_of(each)[1]:
                    meta.setdefault("namespace", "default")
                self.api.put(each)
        for name in delete:
            elsewhere = {place for other, places in self.files.items() if other != name for place in places}
            for gone in self.files.pop(name) - elsewhere:
                self.api.remove(gone)
        return f"rv:{self.api.version}"

    def write_status(self, seconds: float = 1.0) -> None:
        """Let the cluster be told."""
        for _ in range(5):
            self.elapsed_s += seconds
            self.writer.pass_once(self.threads)

    def shown(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        """An object of the cluster."""
        found = self.api.find(kind, name, namespace)
        assert found is not None, f"the cluster has no {kind} {name}"
        return found

    def condition(self, kind: str, name: str, type_: str) -> tuple[str, str]:
        """(status, reason) of a condition in the cluster."""
        conditions = (self.shown(kind, name).get("status") or {}).get("conditions", ())
        return next(((c["status"], c["reason"]) for c in conditions if c["type"] == type_), ("", ""))

    def close(self) -> None:
        self.threads.shutdown()
        super().close()


class _Moments:
    """The clock of the world, as a Clock for what asks the time only."""

    def __init__(self, world: ClusterWorld) -> None:
        self._world = world

    def now(self) -> Any:
        """Wall time."""
        return self._world.now

    def monotonic(self) -> float:
        """Seconds."""
        return self._world.elapsed_s

    async def sleep(self, seconds: float) -> None:
        """Nobody waits here."""
        raise AssertionError("nothing sleeps in a world")

    def call_at(self, when: float, callback: Callable[[], object]) -> Any:
        """Nobody waits here."""
        raise AssertionError("nothing waits in a world")
