"""Kubernetes Secrets, read from the API server as the service account of the engine's pod.

Address, token and certificates come from ``remit.yaml``; a reference names a Secret and a key only. Which namespace of
the cluster it is looked up in follows from the namespace of whoever refers to it.
"""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Callable
from pathlib import Path

from controllers.secrets import http
from controllers.secrets.files import SecretFiles
from controllers.secrets.source import LARGEST, SecretMissing, SecretUnavailable, shown
from schemas.secret import ValueFrom
from schemas.secrets_config import KubernetesConfig

_PASSING = {429, 500, 502, 503, 504}


class NamespaceSecrets:
    """The Secrets of one namespace of the cluster."""

    def __init__(self, config: KubernetesConfig, namespace: str, project: Path, monotonic: Callable[[], float]) -> None:
        """``project`` is where relative files start."""
        self._config = config
        self._namespace = namespace
        self._project = project
        self._monotonic = monotonic

    def fetch(self, reference: ValueFrom) -> str:
        """The value as the cluster has it now. Raises SecretMissing, SecretUnavailable."""
        assert reference.kubernetes_secret is not None
        ref = reference.kubernetes_secret
        what = f"{shown(reference)} in the namespace {self._namespace}"
        url = f"{self._config.address.rstrip('/')}/api/v1/namespaces/{self._namespace}/secrets/{ref.name}"
        headers = {"Authorization": f"Bearer {self._token(what)}", "Accept": "application/json"}
        ca = None if self._config.ca_file is None else self._project / self._config.ca_file
        if not self._config.address.startswith("https"):
            ca = None  # plain HTTP on this machine has no certificate
        status, data = http.ask("GET", url, headers, None, what=what, monotonic=self._monotonic, ca_file=ca)
        if status == 200:
            return _value(data, ref.key, what)
        if status in _PASSING:
            raise SecretUnavailable(f"cannot look up {what}: the API server answers HTTP {status}")
        why = {
            401: "the token of the engine's service account is not accepted",
            403: "the engine's service account may not get it: it needs a Role with get on secrets there",
            404: "there is no such Secret",
        }.get(status, f"it answers HTTP {status}; is that the address of an API server?")
        raise SecretMissing(f"cannot look up {what}: {why}")

    def _token(self, what: str) -> str:
        # Read anew each time: the kubelet replaces it before it ends.
        file = self._project / self._config.token_file
        try:
            token = SecretFiles(folders=(file.parent,)).read(str(file), self._project).strip()
        except SecretMissing as error:
            raise SecretMissing(f"cannot look up {what}: secrets.kubernetesSecret.tokenFile: {error}") from None
        if not http.credential(token):
            raise SecretMissing(f"cannot look up {what}: secrets.kubernetesSecret.tokenFile holds no token")
        return token


class KubernetesSecrets:
    """``make`` builds what looks into one namespace of the cluster; each is built once. Thread-safe."""

    def __init__(self, config: KubernetesConfig, make: Callable[[str], http.Service]) -> None:
        self._config = config
        self._make = make
        self._lock = threading.Lock()
        self._by_namespace: dict[str, http.Service] = {}

    def of(self, namespace: str) -> http.Service:
        """Where a namespace of ours has its Secrets: what the configuration says, else one of the same name."""
        place = self._config.namespaces.get(namespace, namespace)
        with self._lock:
            known = self._by_namespace.get(place)
            if known is None:
                known = self._by_namespace[place] = self._make(place)
            return known


def _value(data: bytes, key: str, what: str) -> str:
    answer = http.as_object(data)
    fields = answer.get("data") if answer is not None else None
    if answer is None or answer.get("kind", "Secret") != "Secret" or not isinstance(fields, dict | None):
        raise SecretMissing(f"cannot look up {what}: the answer is not a Secret")
    coded = (fields or {}).get(key)
    if not isinstance(coded, str):
        raise SecretMissing(f"cannot look up {what}: the Secret has no such key")
    try:
        value = base64.b64decode(coded, validate=True).decode()
    except (binascii.Error, ValueError):
        raise SecretMissing(f"cannot look up {what}: it is binary; only texts can be used") from None
    if len(value.encode()) > LARGEST:
        raise SecretMissing(f"cannot look up {what}: it is larger than {LARGEST} bytes")
    return value
