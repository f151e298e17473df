"""The KubernetesJob executor: a run is a Job of a cluster, made and watched through the outbox.

Here is what the engine asks of any executor; see the package for where the rest is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from controllers.dispatch.executor import EndedRun, RunOrder
from controllers.dispatch.jobs.access import Accesses
from controllers.runtime.blocking import Blocking
from schemas.base import DEFAULT_NAMESPACE
from schemas.executor import Capabilities, ExecutorSpec, KubernetesJob, OutputFormat


class KubernetesJobExecutor:
    """See ``executor.Executor``. ``offer`` has a Job made, ``withdraw`` ends the run or has its Job deleted; each in
    one transaction of its own, and idempotent by the run's uid."""

    def __init__(
        self, blocking: Blocking, accesses: Accesses, *, offer: Callable[[str], None], withdraw: Callable[[str], None]
    ) -> None:
        self._blocking = blocking
        self._accesses = accesses
        self._offer = offer
        self._withdraw = withdraw

    def capabilities(self, executor_spec: Mapping[str, Any]) -> Capabilities:
        """See ``Executor.capabilities``."""
        spec = ExecutorSpec.model_validate(executor_spec)
        priced = spec.output_format not in (OutputFormat.TEXT, OutputFormat.CODEX_JSONL)
        reports = spec.output_format is OutputFormat.REMIT
        return Capabilities(cancel=True, cost_reporting=priced, resume=spec.resumes, approvals=reports)

    async def open(self) -> None:
        """See ``Executor.open``: runs are in the store."""

    async def start(self, order: RunOrder) -> None:
        """See ``Executor.start``. The outbox makes it."""
        await self._blocking.run(self._offer, order.run_uid)

    async def cancel(self, run_uid: str, grace_s: float) -> None:
        """See ``Executor.cancel``. How long its pod takes to stop is declared in the pod template."""
        await self._blocking.run(self._withdraw, run_uid)

    async def outcomes(self) -> AsyncIterator[EndedRun]:
        """See ``Executor.outcomes``: none come this way."""
        never: asyncio.Queue[EndedRun] = asyncio.Queue()
        while True:
            yield await never.get()

    async def acknowledge(self, run_uid: str) -> None:
        """See ``Executor.acknowledge``."""

    async def close(self) -> None:
        """See ``Executor.close``."""

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
