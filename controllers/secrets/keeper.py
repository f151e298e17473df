"""The one place that turns references into values: walls first, then the cache, then where the secret lies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from controllers.secrets import walls
from controllers.secrets.files import SecretFiles
from controllers.secrets.http import Service
from controllers.secrets.known import KnownSecrets
from controllers.secrets.kubernetes import KubernetesSecrets, NamespaceSecrets
from controllers.secrets.source import SecretMissing, SecretUnavailable, shown
from schemas.base import DEFAULT_NAMESPACE
from schemas.secret import ValueFrom
from schemas.secrets_config import KubernetesConfig, SecretsConfig

_FAILURE_S = 2.0
"""How long a service that did not answer is left alone."""
_MOST_CACHED = 1000


@dataclass(slots=True)
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    until: float = float("-inf")
    value: str | None = None
    failure: Exception | None = None

    def __repr__(self) -> str:
        return "_Entry()"


class Cached:
    """A service whose answers are used again for ``ttl_s``; one request at a time for each reference. A failure is
    remembered for a moment, so that a service that is gone does not hold up everybody in turn."""

    def __init__(self, service: Service, ttl_s: float, monotonic: Callable[[], float]) -> None:
        self._service = service
        self._ttl_s = ttl_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}

    def fetch(self, reference: ValueFrom) -> str:
        """See ``Service.fetch``."""
        name = shown(reference)
        with self._lock:
            if name not in self._entries and len(self._entries) >= _MOST_CACHED:
                self._entries.clear()
            entry = self._entries.setdefault(name, _Entry())
        with entry.lock:
            if self._monotonic() < entry.until:
                if entry.failure is not None:
                    raise type(entry.failure)(str(entry.failure))
                assert entry.value is not None
                return entry.value
            entry.value, entry.failure = None, None
            try:
                entry.value = self._service.fetch(reference)
            except (SecretMissing, SecretUnavailable) as error:
                entry.failure, entry.until = error, self._monotonic() + _FAILURE_S
                raise
            entry.until = self._monotonic() + self._ttl_s
            return entry.value


@dataclass(frozen=True, slots=True)
class SecretKeeper:
    """``source.SecretSource`` for one engine or worker. ``variables`` is the environment that ``env`` references may
    read. Every value that it gives away is learned by ``known``."""

    config: SecretsConfig
    files: SecretFiles
    vault: Service | None
    aws: Service | None
    known: KnownSecrets
    variables: Mapping[str, str] = field(repr=False)
    kubernetes: KubernetesSecrets | None = None
    namespaces: tuple[str, ...] = (DEFAULT_NAMESPACE,)

    def of(self, *namespaces: str) -> SecretKeeper:
        """See ``SecretSource.of``."""
        return replace(self, namespaces=tuple(dict.fromkeys(namespaces)))

    def resolve(self, reference: ValueFrom, project_root: Path) -> str:
        """See ``SecretSource.resolve``."""
        walls.require(self.config, reference, self.namespaces)
        value = self._value(reference, project_root)
        if not value:
            raise SecretMissing(f"{shown(reference)} is empty")
        self.known.learn(value, self.namespaces)
        return value

    def check(self, reference: ValueFrom, project_root: Path) -> None:
        """See ``SecretSource.check``."""
        if reference.env is not None or reference.file is not None:
            self.resolve(reference, project_root)
            return
        walls.require(self.config, reference, self.namespaces)
        self._service(reference)

    def _value(self, reference: ValueFrom, project_root: Path) -> str:
        if reference.env is not None:
            value = self.variables.get(reference.env)
            if value is None:
                raise SecretMissing(f"the engine has no environment variable {reference.env}")
            return value
        if reference.file is not None:
            operators = self.namespaces == (DEFAULT_NAMESPACE,)
            return self.files.read(reference.file, project_root, links=operators)
        return self._service(reference).fetch(reference)

    def _service(self, reference: ValueFrom) -> Service:
        (kind,) = reference.to_wire()
        # A program belongs to its executor, which is named first; runs of others only use it.
        cluster = self.kubernetes.of(self.namespaces[0]) if self.kubernetes is not None else None
        service = {"vault": self.vault, "awsSecretsManager": self.aws, "kubernetesSecret": cluster}.get(kind)
        if service is None:
            raise SecretMissing(
                f"this engine has no source for secrets of the kind {kind}; describe it in secrets.{kind} of remit.yaml"
            )
        return service


def make_keeper(
    config: SecretsConfig,
    *,
    project: Path,
    closed: tuple[Path, ...],
    variables: Mapping[str, str],
    now: Callable[[], datetime],
    monotonic: Callable[[], float],
    known: KnownSecrets | None = None,
) -> SecretKeeper:
    """A keeper for a configuration. ``closed`` are folders that hold no secrets of anybody (the state directory)."""
    ttl_s = config.cache.total_seconds()
    vault = aws = None
    # Each service is loaded by those who have it.
    if config.vault is not None:
        from controllers.secrets.vault import VaultSecrets

        vault = Cached(VaultSecrets(config.vault, project, monotonic, variables), ttl_s, monotonic)
    if config.aws_secrets_manager is not None:
        from controllers.secrets.aws import AwsSecrets

        settings = config.aws_secrets_manager
        role = None
        if settings.role is not None:
            from controllers.secrets.aws_role import RoleCredentials

            role = RoleCredentials(settings.role, settings.role_address, project, now, monotonic, variables)
        aws = Cached(AwsSecrets(settings, project, now, monotonic, variables, role), ttl_s, monotonic)
    return SecretKeeper(
        config=config,
        files=SecretFiles(tuple(Path(folder) for folder in config.folders), closed),
        vault=vault,
        aws=aws,
        known=known or KnownSecrets(),
        variables=variables,
        kubernetes=_kubernetes(config.kubernetes_secret, project, ttl_s, monotonic),
    )


def _kubernetes(
    config: KubernetesConfig | None, project: Path, ttl_s: float, monotonic: Callable[[], float]
) -> KubernetesSecrets | None:
    if config is None:
        return None

    def make(namespace: str) -> Service:
        return Cached(NamespaceSecrets(config, namespace, project, monotonic), ttl_s, monotonic)

    return KubernetesSecrets(config, make)


def local_secrets(variables: Mapping[str, str]) -> SecretKeeper:
    """Variables and files of this machine, for the operators' namespace; no service."""
    return SecretKeeper(SecretsConfig(), SecretFiles(), None, None, KnownSecrets(), variables)
