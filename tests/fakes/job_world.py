"""A World whose KubernetesJob executors make Jobs: the real effects and their record, and a cluster in memory."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

from controllers.dispatch.environment import LocalSecrets
from controllers.dispatch.jobs.access import Access, Accesses
from controllers.dispatch.jobs.cluster import Answer, Cluster, Said
from controllers.effects import jobs
from controllers.effects.job_runs import JobRuns
from controllers.effects.job_sweep import JobSweep
from controllers.effects.runs import RunContext
from controllers.reconcilers.executors import Probe
from controllers.runs.artifacts import ArtifactFiles
from controllers.runtime.blocking import InlineBlocking
from controllers.runtime.clock import Clock
from schemas.executor import Capabilities, ExecutorReason, ExecutorSpec, ExecutorType
from schemas.quantities import format_time
from schemas.secrets_config import KubernetesConfig
from tests.fakes.http_world import Killed, _Now, _Tokens
from tests.fakes.outbox_world import OutboxWorld

DOWN = Answer(Said.BUSY, "the API server of the cluster: no connection")
BROKEN = Answer(Said.UNSURE, "the API server of the cluster: the connection broke")


@dataclass
class FakeCluster:
    """See ``Cluster``: what is made stays until it is deleted, and moves only by hand. ``script`` holds answers, by
    method and kind, that are given in place of the true one; a tuple of answer and True is given after the deed."""

    now: Callable[[], str]
    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    script: dict[str, deque[Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    output: bytes = b"hello\n"
    _uids: int = 0

    def put_off(self, what: str, *answers: Any) -> None:
        """Script what is said to ``what``, such as "make Job"."""
        self.script.setdefault(what, deque()).extend(answers)

    def _said(self, what: str, deed: Callable[[], Answer]) -> Answer:
        self.asked.append(what)
        waiting = self.script.get(what)
        if not waiting:
            return deed()
        found = waiting.popleft()
        if isinstance(found, tuple):
            deed()
            found = found[0]
        if not isinstance(found, Answer):
            raise Killed
        return found

    async def make(self, document: Mapping[str, Any]) -> Answer:
        """See ``Cluster.make``."""
        kind, name = str(document["kind"]), str(document["metadata"]["name"])

        def deed() -> Answer:
            if (kind, name) in self.objects:
                return Answer(Said.CONFLICT, f"{kind} {name} already exists")
            self._uids += 1
            made = copy.deepcopy(dict(document))
            made["metadata"] |= {"uid": f"uid-{self._uids}", "creationTimestamp": self.now()}
            self.objects[kind, name] = made
            self.made.append(f"{kind} {name}")
            return Answer(Said.DONE, document=made)

        return self._said(f"make {kind}", deed)

    def _found(self, kind: str, name: str) -> Answer:
        found = self.objects.get((kind, name))
        return Answer(Said.MISSING) if found is None else Answer(Said.DONE, document=copy.deepcopy(found))

    async def get(self, kind: str, name: str) -> Answer:
        """See ``Cluster.get``."""
        return self._said(f"get {kind}", lambda: self._found(kind, name))

    async def change(self, kind: str, name: str, patch: Mapping[str, Any]) -> Answer:
        """See ``Cluster.change``."""

        def deed() -> Answer:
            if (kind, name) in self.objects:
                for part, fields in patch.items():
                    self.objects[kind, name].setdefault(part, {}).update(fields)
            return self._found(kind, name)

        return self._said(f"change {kind}", deed)

    async def delete(self, kind: str, name: str, uid: str = "") -> Answer:
        """See ``Cluster.delete``: Jobs are gone once ``collect`` was called."""

        def deed() -> Answer:
            found = self.objects.get((kind, name))
            if found is None:
                return Answer(Said.MISSING)
            if uid and found["metadata"]["uid"] != uid:
                return Answer(Said.CONFLICT)
            if kind == "Job":
                found["metadata"]["deletionTimestamp"] = self.now()
            else:
                del self.objects[kind, name]
            return Answer(Said.DONE, document={"kind": "Status"})

        return self._said(f"delete {kind}", deed)

    async def pods(self, job: str) -> Answer:
        """See ``Cluster.pods``."""

        def deed() -> Answer:
            found = [o for (kind, _), o in self.objects.items() if kind == "Pod"]
            return Answer(
                Said.DONE, document={"items": [p for p in found if p["metadata"]["labels"]["job-name"] == job]}
            )

        return self._said("pods", deed)

    async def log(self, pod: str, container: str, *, limit: int, lines: int = 0) -> Answer:
        """See ``Cluster.log``."""
        return self._said("log", lambda: Answer(Said.DONE, data=self.output[:limit]))

    async def jobs(self, store: str) -> Answer:
        """See ``Cluster.jobs``."""

        def deed() -> Answer:
            found = [o for (kind, _), o in self.objects.items() if kind == "Job"]
            mine = [o for o in found if o["metadata"]["labels"]["remit.dev/store"] == store]
            return Answer(Said.DONE, document={"items": copy.deepcopy(mine)})

        return self._said("jobs", deed)

    # What others do to it.

    @property
    def job(self) -> dict[str, Any]:
        """The only Job."""
        (found,) = [o for (kind, _), o in self.objects.items() if kind == "Job"]
        return found

    def pod(self, phase: str, state: dict[str, Any] | None = None, **status: Any) -> None:
        """Set the pod of the only Job."""
        name, uid = self.job["metadata"]["name"], self.job["metadata"]["uid"]
        container = {"name": self.job["spec"]["template"]["spec"]["containers"][0]["name"], "state": state or {}}
        self.objects["Pod", name] = {
            "metadata": {
                "name": f"{name}-0", "labels": {"job-name": name}, "ownerReferences": [{"uid": uid}],
                "creationTimestamp": self.now(),
            },
            "spec": {"nodeName": "node-1"},
            "status": {"phase": phase, "containerStatuses": [container], **status},
        }  # fmt: skip

    def runs(self) -> None:
        """Its program begins."""
        self.pod("Running", {"running": {"startedAt": self.now()}})

    def ends(self, code: int = 0, reason: str = "", **terminated: Any) -> None:
        """Its program ends, and the Job with it."""
        state = {"exitCode": code, "reason": reason or ("Completed" if code == 0 else "Error"),
                 "startedAt": self.now(), "finishedAt": self.now(), **terminated}  # fmt: skip
        self.pod("Succeeded" if code == 0 else "Failed", {"terminated": state})
        self.finishes("Complete" if code == 0 else "Failed", "" if code == 0 else "BackoffLimitExceeded")

    def finishes(self, type_: str, reason: str = "") -> None:
        """The Job is over."""
        condition = {"type": type_, "status": "True", "reason": reason, "lastTransitionTime": self.now()}
        self.job["status"] = {"conditions": [condition]}

    def collect(self) -> None:
        """What is being deleted goes, with what it owns."""
        for (kind, name), found in list(self.objects.items()):
            if kind == "Job" and "deletionTimestamp" in found["metadata"]:
                for also in ("Job", "Pod", "Secret"):
                    self.objects.pop((also, name), None)


@dataclass
class JobWorld(OutboxWorld):
    """``cluster`` is where its Jobs go."""

    records = jobs

    def __post_init__(self) -> None:
        self.cluster = FakeCluster(lambda: format_time(self.clock()))
        super().__post_init__()
        secrets = LocalSecrets({"KUBECONFIG_TEXT": "apiVersion: v1"})
        accesses = _Accesses(secrets, KubernetesConfig(), self.folder)
        self.runs = JobRuns(
            self.store,
            RunContext(_Tokens(b"k" * 32), lambda: "http://127.0.0.1:1", self.folder),
            accesses=accesses,
            reach=lambda access, namespace: cast(Cluster, self.cluster),
            files=ArtifactFiles(self.folder / "state"),
            state=self.folder / "state",
            blocking=InlineBlocking(),
            clock=cast(Clock, _Now(self.clock)),
            random=Random(1),
        )
        self.sweep = JobSweep(
            self.store,
            accesses=accesses,
            reach=lambda access, namespace: cast(Cluster, self.cluster),
            blocking=InlineBlocking(),
        )
        (self.folder / "state").mkdir(exist_ok=True)
        self._handlers |= {
            jobs.MAKE: self.runs.make, jobs.WATCH: self.runs.watch, jobs.DELETE: self.runs.delete,
            jobs.TIDY: self.runs.tidy,
        }  # fmt: skip

    def _probe(self, spec: ExecutorSpec, namespace: str) -> Probe:
        if spec.type is ExecutorType.KUBERNETES_JOB:
            return Probe(ExecutorReason.RECONCILED, "", Capabilities(cancel=True))
        return super()._probe(spec, namespace)


class _Accesses(Accesses):
    """Every kubeconfig is good, and leads to the cluster in memory."""

    def of(self, namespaces: tuple[str, ...], declared: Any) -> Access:
        """See ``Accesses.of``."""
        if declared.kubeconfig is not None:
            self._secrets.of(*namespaces).resolve(declared.kubeconfig, self._project)
        return Access("https://cluster.example", None, lambda: "")


def executor(job: str = "", *, retry: str = "{maxAttempts: 3}", more: str = "") -> str:
    """A KubernetesJob executor, called like the one of the World's agents."""
    template = "podTemplate: {spec: {containers: [{name: agent, image: 'agent:1'}]}}"
    return (
        "apiVersion: remit.dev/v1alpha1\nkind: Executor\nmetadata: {name: local}\n"
        f"spec:\n  type: KubernetesJob\n  kubernetesJob: {{{template}{', ' + job if job else ''}}}\n"
        f"  retry: {retry}\n{more}"
    )
