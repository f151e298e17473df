"""Jobs of this store that no open run has: found every now and then, deleted and told."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from controllers.dispatch.environment import SecretMissing, SecretUnavailable
from controllers.dispatch.jobs import document
from controllers.dispatch.jobs.access import Access, Accesses, ClusterProblem
from controllers.dispatch.jobs.cluster import Reach
from controllers.effects import jobs
from controllers.runtime.blocking import Blocking
from schemas.base import Key
from schemas.event import EventType
from schemas.executor import ExecutorSpec
from schemas.resource import SYSTEM
from schemas.run import ENDED
from store.contract import Store


class JobSweep:
    """Looks through the places that Executors make Jobs in."""

    def __init__(self, store: Store, *, accesses: Accesses, reach: Reach, blocking: Blocking) -> None:
        self._store = store
        self._accesses = accesses
        self._reach = reach
        self._blocking = blocking

    async def sweep(self) -> int:
        """Look for Jobs of this store that no open run has: those of runs that it does not know (it was restored from a
        backup) or that ended while nobody could delete them. They are deleted, and their Executor tells; the number of
        them. Nothing is done where a cluster does not answer."""
        label, places = await self._blocking.run(self._places)
        count = 0
        for executor, access, namespace in places:
            cluster = self._reach(access, namespace)
            answer = await cluster.jobs(label)
            for job in answer.items if answer.done else ():
                stray = await self._blocking.run(self._stray, job)
                name, uid = str(document.metadata_of(job).get("name")), str(document.metadata_of(job).get("uid"))
                if stray and (await cluster.delete("Job", name, uid)).done:
                    count += 1
                    await self._blocking.run(self._tell, executor, f"{namespace}/{name}", stray)
        return count

    def _places(self) -> tuple[str, list[tuple[Key, Access, str]]]:
        """The label of this store, and each place that its Executors make Jobs in, once. Blocks."""
        with self._store.snapshot() as snapshot:
            label, executors = jobs.store_of(snapshot), snapshot.objects("Executor")
        found: dict[tuple[str, str], tuple[Key, Access, str]] = {}
        for executor in executors:
            declared = ExecutorSpec.model_validate(executor.spec).kubernetes_job
            if declared is None:
                continue
            with contextlib.suppress(SecretMissing, SecretUnavailable, ClusterProblem):
                namespace = self._accesses.namespace(executor.namespace, declared)
                access = self._accesses.of((executor.namespace,), declared)
                found.setdefault((access.server, namespace), (executor.key, access, namespace))
        return label, list(found.values())

    def _stray(self, job: Mapping[str, Any]) -> str:
        """Why a Job is to go; "" when it is not, or goes by itself. Blocks."""
        labels = document.metadata_of(job).get("labels")
        uid = str(labels.get(document.RUN_LABEL, "")) if isinstance(labels, Mapping) else ""
        if document.metadata_of(job).get("deletionTimestamp"):
            return ""
        with self._store.snapshot() as snapshot:
            run = snapshot.get_by_uid(uid)
        if run is None:
            return "no run of this store has it"
        over = any(c.get("status") == "True" for c in _conditions(job) if c.get("type") in ("Complete", "Failed"))
        if run.state in {state.value for state in ENDED} and not over:
            return f"its run {run.name} ended before it"
        return ""

    def _tell(self, executor: Key, job: str, why: str) -> None:
        with self._store.transaction(SYSTEM) as tx:
            subject = tx.get(executor)
            if subject is not None:
                tx.event(
                    EventType.JOB_CHANGED, subject, reason="Swept", message=f"{job} was deleted: {why}",
                    data={"job": job},
                )  # fmt: skip


def _conditions(job: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    status = job.get("status")
    found = status.get("conditions") if isinstance(status, Mapping) else None
    return [c for c in found if isinstance(c, Mapping)] if isinstance(found, list) else []
