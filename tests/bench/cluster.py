"""Benches over a real API server: from a change in a cluster to its pass, and what thousands of missions cost it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import os
import secrets
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from controllers.runtime.blocking import ThreadBlocking
from controllers.runtime.clock import SystemClock
from controllers.runtime.lifecycle import Lifecycle
from controllers.sources.kubernetes import KubernetesReader, Scope
from controllers.sources.kubernetes_watch import KubernetesWatch
from controllers.sources.readers import Readers
from controllers.sources.sync import SourceSync
from controllers.web.kubernetes import MERGE, Cluster, connect
from controllers.wiring import DEFAULT_SOURCE, ensure_source
from schemas.base import Key
from schemas.config import KubernetesSource
from schemas.registry import KindName
from schemas.resource import SYSTEM
from tests.bench.measure import Measured, ms, sized
from tests.fakes import kubernetes_project
from tests.fakes.cluster_world import ClusterWorld
from tests.fakes.stores import SqliteHarness

_ROOT = "/apis/remit.dev/v1alpha1"
_LONG_S = 300.0


class _Timed(KubernetesWatch):
    """Notes when kopf called its handler: before anything of ours is done about it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.called: dict[str, float] = {}

    def _on_event(self, name: KindName, type_: str, document: Any) -> None:
        self.called.setdefault(document["metadata"]["resourceVersion"], time.perf_counter())
        super()._on_event(name, type_, document)


def _namespace(cluster: Cluster) -> str:
    name = f"bench-{secrets.token_hex(4)}"
    cluster.ask("POST", "/api/v1/namespaces", body={"metadata": {"name": name}})
    return name


def _mission(name: str, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "remit.dev/v1alpha1", "kind": "Mission", "metadata": {"name": name, "namespace": namespace},
        "spec": {"title": name, "review": "None"},
    }  # fmt: skip


def watch_to_pass(scale: float) -> Measured:
    """One mission after another is edited; from the answer of the API server to the store, against the same to the
    moment at which kopf calls a handler. Both are taken from the same events."""
    count = sized(50, scale)
    cluster = connect({"KUBECONFIG": str(kubernetes_project.shared().kubeconfig)})
    try:
        return asyncio.run(_watch_to_pass(cluster, count))
    finally:
        cluster.close()


async def _watch_to_pass(cluster: Cluster, count: int) -> Measured:
    namespace = _namespace(cluster)
    place = f"{_ROOT}/namespaces/{namespace}/missions"
    for number in range(count):
        cluster.ask("POST", place, body=_mission(f"m{number}", namespace))
    hinted, stopped = threading.Event(), threading.Event()
    reader = KubernetesReader(cluster, Scope((namespace,)), monotonic=time.monotonic)
    blocking, life = ThreadBlocking(4), Lifecycle()
    watch = _Timed(cluster, reader, hinted.set, clock=SystemClock(), blocking=blocking, probe_s=0)
    with tempfile.TemporaryDirectory() as folder:
        harness = SqliteHarness(Path(folder))
        store = harness.open()
        with store.transaction(SYSTEM) as tx:
            ensure_source(tx, KubernetesSource(namespaces=(namespace,)).to_spec())
        readers = Readers(Path(folder), Path(folder) / "mirrors", reader)
        sync = SourceSync(store, readers, cache=store, now=SystemClock().now, jitter=lambda: 1.0)

        def passes() -> None:
            while not stopped.is_set():
                hinted.wait()
                hinted.clear()
                sync(DEFAULT_SOURCE)

        def edits() -> tuple[list[float], list[float]]:
            ours, floor = [], []
            key = Key("Mission", namespace, "m0")
            wrote = threading.Event()
            store.subscribe(lambda _: wrote.set())  # to look over and over would take the processor from the pass
            _until(lambda: _generation(store, key) == 1, wrote)
            watch.called.clear()
            for number in itertools.count():
                if len(ours) == count:
                    return ours, floor
                body = {"spec": {"priority": number % 90 + 1}}
                began = time.perf_counter()
                answer = cluster.ask("PATCH", f"{place}/m0", body=body, kind=MERGE)
                _until(lambda want=number: _generation(store, key) >= want + 2, wrote)  # type: ignore[misc]
                done = time.perf_counter()
                called = watch.called.get(answer["metadata"]["resourceVersion"])
                if called is not None and number:  # the first edit may meet a stream that is not open yet
                    ours.append(done - began)
                    floor.append(called - began)
            raise AssertionError("it counts for ever")

        worker = threading.Thread(target=passes)
        worker.start()
        listening = asyncio.create_task(watch.run(life))
        try:
            ours, floor = await blocking.run(edits)
        finally:
            life.stopping.set()
            await listening
            stopped.set()
            hinted.set()
            worker.join()
            harness.close()
            blocking.close()
    a, b = statistics.median(ours), statistics.median(floor)
    return Measured(a / b, ms(a), ms(b), f"{count} edits, one after the other")


def _resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _generation(store: Any, key: Key) -> int:
    with store.snapshot() as snapshot:
        found = snapshot.get(key)
    return found.generation if found is not None else 0


def _until(fact: Any, told: threading.Event) -> None:
    """Wait for a fact that changes when somebody tells."""
    ends = time.monotonic() + _LONG_S
    while not fact():
        assert time.monotonic() < ends, "nothing came of it"
        told.wait(1.0)
        told.clear()


class _RealWorld(ClusterWorld):
    """A world over a real API server."""

    namespace = ""
    cluster: Cluster

    def _make_api(self) -> Any:
        return self.cluster

    def _scope(self) -> Scope:
        return Scope((self.namespace,))


def many_missions(scale: float) -> Measured:
    """Writes to the API for each mission, from its declaration until the cluster shows what became of it. The note has
    the time until all do, and the memory that the process takes for it."""
    count = sized(5_000, scale)
    cluster = connect({"KUBECONFIG": str(kubernetes_project.shared().kubeconfig)})
    try:
        namespace = _namespace(cluster)
        place = f"{_ROOT}/namespaces/{namespace}/missions"
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            documents = (_mission(f"m{number:05}", namespace) for number in range(count))
            list(threads.map(lambda document: cluster.ask("POST", place, body=document), documents))
        with tempfile.TemporaryDirectory() as folder:
            before = _resident()
            began = time.perf_counter()
            world = type("_Here", (_RealWorld,), {"cluster": cluster, "namespace": namespace})
            made = world(Path(folder), most_passes=20 * count)
            made.settle()
            settled = time.perf_counter() - began
            made.write_status()
            took = time.perf_counter() - began
            held = _resident() - before
            answer = cluster.ask("GET", place, params={"limit": "500"})
            assert all(item.get("status", {}).get("conditions") for item in answer["items"])
            writes = made.writer.writes
            made.close()
    finally:
        cluster.close()
    note = f"{count:,} missions settled after {settled:.3g} s, shown after {took:.3g} s, {held / 1e6:.3g} MB"
    return Measured(writes / count, f"{writes:,} writes", "one for each", note)
