"""The Http executor: runs are posted to a worker elsewhere, through the outbox.

What is sent is in ``http_worker``, how in ``controllers.web.client``; what the store makes of the answers is in
``effects.posts``. Here is what the engine asks of any executor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from controllers.dispatch.environment import SecretSource
from controllers.dispatch.http_worker import worker_of
from controllers.dispatch.stored import StoredRuns
from controllers.runtime.blocking import Blocking
from controllers.web import addresses
from schemas.base import DEFAULT_NAMESPACE
from schemas.executor import Capabilities, HttpResult


class HttpExecutor(StoredRuns):
    """See ``executor.Executor``. ``offer`` has a run posted, ``withdraw`` ends it or has its worker told to stop."""

    def __init__(
        self,
        blocking: Blocking,
        *,
        secrets: SecretSource,
        offer: Callable[[str], None],
        withdraw: Callable[[str], None],
    ) -> None:
        super().__init__(blocking, offer=offer, withdraw=withdraw)
        self._secrets = secrets

    def capabilities(self, executor_spec: Mapping[str, Any]) -> Capabilities:
        """See ``Executor.capabilities``. A worker that calls back can ask for leave."""
        _, worker = worker_of(executor_spec)
        calls_back = worker.result is HttpResult.CALLBACK
        return Capabilities(cancel=worker.cancel is not None, cost_reporting=True, approvals=calls_back)

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
