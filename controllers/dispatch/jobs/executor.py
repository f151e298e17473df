"""The KubernetesJob executor: a run is a Job of a cluster, made and watched through the outbox.

Here is what the engine asks of any executor; see the package for where the rest is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from controllers.dispatch.jobs.access import Accesses
from controllers.dispatch.stored import StoredRuns
from controllers.runtime.blocking import Blocking
from schemas.base import DEFAULT_NAMESPACE
from schemas.executor import Capabilities, ExecutorSpec, KubernetesJob, OutputFormat


class KubernetesJobExecutor(StoredRuns):
    """See ``executor.Executor``. ``offer`` has a Job made, ``withdraw`` ends the run or has its Job deleted.
    How long its pod takes to stop is declared in the pod template."""

    def __init__(
        self, blocking: Blocking, accesses: Accesses, *, offer: Callable[[str], None], withdraw: Callable[[str], None]
    ) -> None:
        super().__init__(blocking, offer=offer, withdraw=withdraw)
        self._accesses = accesses

    def capabilities(self, executor_spec: Mapping[str, Any]) -> Capabilities:
        """See ``Executor.capabilities``."""
        spec = ExecutorSpec.model_validate(executor_spec)
        priced = spec.output_format not in (OutputFormat.TEXT, OutputFormat.CODEX_JSONL)
        reports = spec.output_format is OutputFormat.REMIT
        return Capabilities(cancel=True, cost_reporting=priced, resume=spec.resumes, approvals=reports)

    def check(self, executor_spec: Mapping[str, Any], namespace: str = DEFAULT_NAMESPACE) -> str:
        """What would keep any run with this spec, declared in ``namespace``, from being started; "" when nothing is
        known to. Asks no service. Raises SecretMissing."""
        return self._accesses.check(namespace, job_of(executor_spec))


def job_of(executor_spec: Mapping[str, Any]) -> KubernetesJob:
    """Its block. Raises ValueError for another type."""
    found = ExecutorSpec.model_validate(executor_spec).kubernetes_job
    if found is None:
        raise ValueError("the executor has no block kubernetesJob")
    return found
