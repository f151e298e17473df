"""How the API server of a cluster is reached, and as whom: a kubeconfig, or the service account of the engine's pod.

A kubeconfig counts only as far as it holds everything itself. Programs that it names are not started, and files that it
names are not read: who may write one does not thereby come by what lies on the engine's machine.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ssl
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from controllers.dispatch.environment import SecretMissing, SecretSource, SecretUnavailable
from controllers.secrets.files import SecretFiles
from controllers.secrets.http import credential
from schemas.executor import KubernetesJob
from schemas.secrets_config import KubernetesConfig

_REMEMBERED = 64
_ELSEWHERE = {
    "certificate-authority": "certificate-authority-data",
    "client-certificate": "client-certificate-data",
    "client-key": "client-key-data",
    "tokenFile": "token",
}
_REFUSED = {
    "exec": "programs that give out credentials are not started: use the token of a service account",
    "auth-provider": "its auth-provider is not supported: use the token of a service account",
    "username": "names and passwords are not supported: use a token",
    "impersonate": "as, impersonate and the like are not supported",
    "as": "as, impersonate and the like are not supported",
    "insecure-skip-tls-verify": "a server whose certificate is not looked at is not reached: give"
    " certificate-authority-data",
    "proxy-url": "proxies are not supported",
}


class ClusterProblem(Exception):
    """A cluster that cannot be used as it is declared. The message says what to do, and holds no secret."""


@dataclass(frozen=True, slots=True)
class Access:
    """An API server and a proof of identity. ``token`` is asked for each request; it blocks, and raises
    SecretMissing."""

    server: str
    tls: ssl.SSLContext | None
    token: Callable[[], str]

    def headers(self) -> dict[str, str]:
        """What proves the identity; {} where the certificate does. Blocks. Raises SecretMissing."""
        token = self.token()
        return {"Authorization": f"Bearer {token}"} if token else {}


class Accesses:
    """Finds the access that an Executor declares. Thread-safe; what a kubeconfig comes to is remembered by its
    digest."""

    def __init__(self, secrets: SecretSource, config: KubernetesConfig, project: Path) -> None:
        """``config`` is the cluster of the engine's own pod; ``project`` is where relative files start."""
        self._secrets = secrets
        self._config = config
        self._project = project
        self._lock = threading.Lock()
        self._known: dict[str, Access] = {}

    def namespace(self, executor_namespace: str, declared: KubernetesJob) -> str:
        """Where its Jobs go. Raises ClusterProblem for a namespace that the engine's own account is not lent for."""
        own = self._config.namespaces.get(executor_namespace, executor_namespace)
        wanted = declared.namespace or own
        if declared.kubeconfig is None and wanted != own:
            raise ClusterProblem(
                f"spec.kubernetesJob.namespace {wanted}: Jobs that are made as the engine's own account go to {own},"
                " the namespace of the executor; declare kubeconfig, or map it in remit.yaml:"
                " secrets.kubernetesSecret.namespaces"
            )
        return wanted

    def of(self, namespaces: tuple[str, ...], declared: KubernetesJob) -> Access:
        """The access, for secrets that all of these namespaces may use. Blocks. Raises ClusterProblem, SecretMissing,
        SecretUnavailable."""
        if declared.kubeconfig is None:
            return self._own()
        text = self._secrets.of(*namespaces).resolve(declared.kubeconfig, self._project)
        mark = hashlib.sha256(f"{declared.context}\0{text}".encode()).hexdigest()
        with self._lock:
            known = self._known.get(mark)
        if known is None:
            known = from_kubeconfig(text, declared.context)
            with self._lock:
                while len(self._known) >= _REMEMBERED:
                    self._known.pop(next(iter(self._known)))
                self._known[mark] = known
        return known

    def check(self, executor_namespace: str, declared: KubernetesJob) -> str:
        """What would keep any run from being started, "" when nothing is known to. Asks no service. Raises
        SecretMissing."""
        try:
            self.namespace(executor_namespace, declared)
            if declared.kubeconfig is None:
                self._own().token()
                return ""
            granted = self._secrets.of(executor_namespace)
            granted.check(declared.kubeconfig, self._project)
            if declared.kubeconfig.env is not None or declared.kubeconfig.file is not None:
                self.of((executor_namespace,), declared)
        except ClusterProblem as problem:
            return str(problem)
        except SecretUnavailable:
            return ""
        return ""

    def _own(self) -> Access:
        config = self._config
        ca = None if config.ca_file is None else str(self._project / config.ca_file)
        mark = f"own {config.address} {ca}"
        with self._lock:
            known = self._known.get(mark)
        if known is None:
            tls = None
            if config.address.startswith("https"):
                try:
                    tls = ssl.create_default_context(cafile=ca)
                except (OSError, ssl.SSLError) as error:
                    raise ClusterProblem(
                        f"the engine's pod has no certificate of the cluster ({ca}): run it in the cluster, or declare"
                        " spec.kubernetesJob.kubeconfig"
                    ) from error
            known = Access(config.address.rstrip("/"), tls, self._own_token)
            with self._lock:
                self._known[mark] = known
        return known

    def _own_token(self) -> str:
        # Read anew each time: the kubelet replaces it before it ends.
        file = self._project / self._config.token_file
        token = SecretFiles(folders=(file.parent,)).read(str(file), self._project).strip()
        if not credential(token):
            raise SecretMissing(f"{file} holds no token")
        return token


def from_kubeconfig(text: str, context: str | None = None) -> Access:
    """What a kubeconfig says. Raises ClusterProblem."""
    try:
        config = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        config = None
    if not isinstance(config, dict):
        raise ClusterProblem("what spec.kubernetesJob.kubeconfig names is no kubeconfig: it is YAML of kind Config")
    name = context or config.get("current-context")
    chosen = _named(config, "contexts", "context", name)
    cluster = _named(config, "clusters", "cluster", chosen.get("cluster"))
    user = _named(config, "users", "user", chosen.get("user"))
    for part in (cluster, user):
        for field, value in part.items():
            if field in _REFUSED and value:
                raise ClusterProblem(f"the kubeconfig has {field}: {_REFUSED[field]}")
            if field in _ELSEWHERE and value:
                raise ClusterProblem(
                    f"the kubeconfig names a file in {field}: it has to hold {_ELSEWHERE[field]} itself, as"
                    " kubectl config view --flatten --raw makes it"
                )
    server, token = str(cluster.get("server", "")).rstrip("/"), str(user.get("token") or "")
    parts = urlsplit(server)
    if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc or parts.query:
        raise ClusterProblem("the kubeconfig has no server that can be used: it takes an address with https://")
    if token and not credential(token):
        raise ClusterProblem("the token of the kubeconfig is none: it takes printable ASCII without spaces")
    if not token and not user.get("client-certificate-data"):
        raise ClusterProblem("the user of the kubeconfig has neither token nor client-certificate-data")
    return Access(server, _tls(cluster, user), lambda: token)


def _named(config: Mapping[str, Any], plural: str, field: str, name: object) -> dict[str, Any]:
    entries = config.get(plural)
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("name") == name and name:
            found = entry.get(field)
            return found if isinstance(found, dict) else {}
    raise ClusterProblem(f"the kubeconfig has no {field} of the name {str(name)[:100]!r}")


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> ssl.SSLContext:
    authority = cluster.get("certificate-authority-data")
    try:
        context = ssl.create_default_context(cadata=_decoded(authority, "certificate-authority-data"))
        if user.get("client-certificate-data"):
            _show(context, user)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise ClusterProblem(f"a certificate of the kubeconfig cannot be used: {type(error).__name__}") from None
    return context


def _show(context: ssl.SSLContext, user: Mapping[str, Any]) -> None:
    """Have the client's certificate shown. Python reads one from files only; these are the owner's and go at once."""
    with tempfile.TemporaryDirectory(prefix="remit-") as folder:
        certificate, key = Path(folder, "crt"), Path(folder, "key")
        for path, field in ((certificate, "client-certificate-data"), (key, "client-key-data")):
            path.touch(mode=0o600)
            path.write_text(_decoded(user.get(field), field) or "")
        context.load_cert_chain(str(certificate), str(key))


def _decoded(value: object, field: str) -> str | None:
    """The PEM text in a field; None when it is empty."""
    if not value:
        return None
    try:
        return base64.b64decode(str(value), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise ClusterProblem(f"{field} of the kubeconfig is no base64 of a PEM text") from None
