"""The Pull executor: runs lie ready in the store, and workers elsewhere fetch them over the agent protocol.

An ordered run is its own offer, so there is nothing to start. What a worker may do with it, and how its end is
recorded, is in ``effects.claims``; here is what the engine asks of any executor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from controllers.dispatch.environment import SecretMissing, SecretSource
from controllers.dispatch.stored import StoredRuns
from controllers.runtime.blocking import Blocking
from schemas.base import DEFAULT_NAMESPACE
from schemas.executor import Capabilities, ExecutorSpec, OutputFormat
from schemas.secret import ValueFrom

SHORTEST_TOKEN = 20
"""Characters of a worker token; one that is shorter could be guessed."""


class PullExecutor(StoredRuns):
    """See ``executor.Executor``. ``withdraw`` ends a run that is to stop unless a worker holds it, who is told by each
    answer to its renewals."""

    def __init__(self, blocking: Blocking, *, secrets: SecretSource, withdraw: Callable[[str], None]) -> None:
        super().__init__(blocking, withdraw=withdraw)
        self._secrets = secrets

    def capabilities(self, executor_spec: Mapping[str, Any]) -> Capabilities:
        """See ``Executor.capabilities``. Output comes with each renewal; without a declared program nobody knows what
        the workers can report."""
        spec = ExecutorSpec.model_validate(executor_spec)
        program = spec.program
        priced = program is not None and program.output_format not in (OutputFormat.TEXT, OutputFormat.CODEX_JSONL)
        return Capabilities(cancel=True, streaming=True, cost_reporting=priced, resume=spec.resumes)

    def check(self, executor_spec: Mapping[str, Any], project_root: Path, namespace: str = DEFAULT_NAMESPACE) -> str:
        """What would keep its workers from taking runs: nothing that is known here. Raises SecretMissing where
        ``token`` would, as far as it can be told without asking a service."""
        auth = self._auth(executor_spec)
        self._secrets.of(namespace).check(auth, project_root)
        if auth.env is not None or auth.file is not None:
            self.token(executor_spec, project_root, namespace)
        return ""

    def token(self, executor_spec: Mapping[str, Any], project_root: Path, namespace: str = DEFAULT_NAMESPACE) -> str:
        """The token of its workers; ``namespace`` is where the executor is declared. Blocks. Raises SecretMissing,
        which says what to do and holds no value, and SecretUnavailable."""
        value = self._secrets.of(namespace).resolve(self._auth(executor_spec), project_root)
        if len(value) < SHORTEST_TOKEN or not value.isascii() or not value.isprintable() or " " in value:
            raise SecretMissing(
                f"what spec.pull.auth names is no token: it takes at least {SHORTEST_TOKEN} printable ASCII characters"
                " without spaces"
            )
        return value

    def _auth(self, executor_spec: Mapping[str, Any]) -> ValueFrom:
        pull = ExecutorSpec.model_validate(executor_spec).pull
        if pull is None or pull.auth is None:
            raise SecretMissing(
                "spec.pull.auth names no token, so that no worker can prove itself: declare auth: {env: NAME} or"
                " {file: PATH}"
            )
        return pull.auth
