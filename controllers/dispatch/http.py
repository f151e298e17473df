"""The Http executor: runs are posted to a worker elsewhere, through the outbox.

What is sent is in ``http_worker``, how in ``controllers.web.client``; what the store makes of the answers is in
``effects.posts``. Here is what the engine asks of any executor.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from controllers.dispatch.environment import SecretSource
from controllers.dispatch.executor import EndedRun, RunOrder
from controllers.dispatch.http_worker import worker_of
from controllers.runtime.blocking import Blocking
from controllers.web import addresses
from schemas.base import DEFAULT_NAMESPACE
from schemas.executor import Capabilities, HttpResult


class HttpExecutor:
    """See ``executor.Executor``. ``offer`` has a run posted, ``withdraw`` ends it or has its worker told to stop; each
    in one transaction of its own, and idempotent by the run's uid."""

    def __init__(
        self,
        blocking: Blocking,
        *,
        secrets: SecretSource,
        offer: Callable[[str], None],
        withdraw: Callable[[str], None],
    ) -> None:
        self._blocking = blocking
        self._secrets = secrets
        self._offer = offer
        self._withdraw = withdraw

    def capabilities(self, executor_spec: Mapping[str, Any]) -> Capabilities:
        """See ``Executor.capabilities``. A worker that calls back can ask for leave."""
        _, worker = worker_of(executor_spec)
        calls_back = worker.result is HttpResult.CALLBACK
        return Capabilities(cancel=worker.cancel is not None, cost_reporting=True, approvals=calls_back)

    async def open(self) -> None:
        """See ``Executor.open``: runs are in the store."""

    async def start(self, order: RunOrder) -> None:
        """See ``Executor.start``. The outbox posts it."""
        await self._blocking.run(self._offer, order.run_uid)

    async def cancel(self, run_uid: str, grace_s: float) -> None:
        """See ``Executor.cancel``. How long the worker takes is its own affair, up to the run's deadline."""
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

    def check(self, executor_spec: Mapping[str, Any], project_root: Path, namespace: str = DEFAULT_NAMESPACE) -> str:
        """What would keep any run with this spec, declared in ``namespace``, from being posted; "" when nothing is
        known to. Asks no service. Raises SecretMissing."""
        _, worker = worker_of(executor_spec)
        granted = self._secrets.of(namespace)
        references = [worker.auth, worker.signature, *(header.value_from for header in worker.headers)]
        for reference in references:
            if reference is not None:
                granted.check(reference, project_root)
        try:
            parts = urlsplit(worker.url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            return f"spec.http.url cannot be read: {worker.url[:200]!r}"
        if not host:
            return "spec.http.url names no host"
        return addresses.literal_problem(host, allow_private=worker.allow_private)
