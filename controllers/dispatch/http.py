"""Executors of type Http and A2A: runs are posted to a service elsewhere, through the outbox.

What is sent is in ``http_worker`` and ``a2a_service``, how in ``controllers.web.client``; what the store makes of the
answers is in ``effects.posts``. Here is what the engine asks of any executor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from controllers.dispatch.a2a_service import A2aDialect
from controllers.dispatch.dialect import Dialect
from controllers.dispatch.environment import SecretSource
from controllers.dispatch.http_worker import WorkerDialect
from controllers.dispatch.stored import StoredRuns
from controllers.runtime.blocking import Blocking
from controllers.web import addresses
from schemas.base import DEFAULT_NAMESPACE
from schemas.executor import Capabilities, ExecutorSpec, ExecutorType

POSTED = (ExecutorType.HTTP, ExecutorType.A2A)
"""Types whose runs are posted."""


def dialect_of(spec: ExecutorSpec) -> Dialect | None:
    """How what it names is spoken to; None for the types whose runs are not posted."""
    if spec.http is not None:
        return WorkerDialect(spec.http)
    return A2aDialect(spec.a2a) if spec.a2a is not None else None


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
        """See ``Executor.capabilities``."""
        return _dialect(executor_spec).capabilities

    def check(self, executor_spec: Mapping[str, Any], project_root: Path, namespace: str = DEFAULT_NAMESPACE) -> str:
        """What would keep any run with this spec, declared in ``namespace``, from being posted; "" when nothing is
        known to. Asks no service. Raises SecretMissing."""
        dialect = _dialect(executor_spec)
        granted = self._secrets.of(namespace)
        for reference in dialect.references:
            granted.check(reference, project_root)
        service = dialect.service
        try:
            parts = urlsplit(service.url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            return f"its url cannot be read: {service.url[:200]!r}"
        if not host:
            return "its url names no host"
        return addresses.literal_problem(host, allow_private=service.allow_private)


def _dialect(executor_spec: Mapping[str, Any]) -> Dialect:
    found = dialect_of(ExecutorSpec.model_validate(executor_spec))
    if found is None:
        raise ValueError("runs of that type are not posted")
    return found
