"""The API server of a cluster: who it is for this process, one request to it, and lists page by page.

Where it is, and as whom it is spoken to, come from KUBECONFIG, from the service account of the pod, or from the file
that kubectl reads, in this order. Nothing else of the surroundings counts, no proxy either.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import httpx2

from schemas.errors import RemitError, Stalled

if TYPE_CHECKING:
    from lightkube.config.kubeconfig import SingleConfig

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"
PAGE: Final = 500
"""Objects of a list that are asked for in one request."""
_CONNECT_S: Final = 5.0
_TIMEOUT_S: Final = 15.0
_SHORT_S: Final = 8.0
_SHOWN: Final = 300
_MAX_ANSWER: Final = 64 * 1024 * 1024

Document = dict[str, Any]


class ClusterFault(RemitError):
    """The API server said no, or nothing. ``status`` is that of HTTP, 0 for no answer; ``after`` is in seconds, how
    long it asks to wait."""

    def __init__(self, message: str, *, status: int, after: float | None = None) -> None:
        self.status = status
        self.after = after
        super().__init__(message)

    @property
    def passing(self) -> bool:
        """Whether trying again may do."""
        return self.status in (0, 408, 409, 429) or self.status >= 500


class Api(Protocol):
    """What is asked of an API server. Safe to call from several threads."""

    def ask(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: Any = None,
        kind: str = "application/json", timeout_s: float = _TIMEOUT_S,
    ) -> Document:  # fmt: skip
        """Send one request and read the whole answer, {} for an empty one. ``kind`` is the media type of ``body``.
        Blocks. Raises ClusterFault."""
        ...


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list. ``version`` is the resourceVersion of the whole list."""

    items: tuple[Document, ...]
    version: str


def pages(api: Api, path: str, params: Mapping[str, str] | None = None, *, limit: int = PAGE) -> Iterator[Page]:
    """A list, page by page, consistent as a whole. Raises ClusterFault; 410 when it took too long and has to begin
    anew."""
    query = {**(params or {}), "limit": str(limit)}
    while True:
        answer = api.ask("GET", path, params=query)
        meta = answer.get("metadata") or {}
        items = answer.get("items") or ()
        yield Page(tuple(item for item in items if isinstance(item, dict)), str(meta.get("resourceVersion") or ""))
        following = meta.get("continue")
        if not following:
            return
        query["continue"] = str(following)


class Cluster:
    """A cluster, over HTTPS with connections that are kept. Close it."""

    def __init__(self, config: SingleConfig) -> None:
        from lightkube.config import client_adapter  # lazily: only an engine that has a cluster needs it

        self.config = config
        timeout = httpx2.Timeout(_TIMEOUT_S, connect=_CONNECT_S)
        params = client_adapter.ConnectionParams(timeout=timeout, trust_env=False)
        self._open: Callable[[], httpx2.Client] = lambda: client_adapter.Client(config, params)
        self._lock = threading.Lock()
        self._client = self._open()
        self._retired: httpx2.Client | None = None

    @property
    def namespace(self) -> str:
        """The namespace that this process belongs to."""
        return self.config.namespace

    def close(self) -> None:
        """Let go of the connections."""
        with self._lock:
            self._client.close()
            if self._retired is not None:
                self._retired.close()

    def ask(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: Any = None,
        kind: str = "application/json", timeout_s: float = _TIMEOUT_S,
    ) -> Document:  # fmt: skip
        """See `Api.ask`."""
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        headers = {"Accept": "application/json", **({"Content-Type": kind} if content is not None else {})}
        answer = self._send(method, path, dict(params or {}), content, headers, timeout_s)
        if answer.status_code >= 300:
            raise _fault(method, path, answer)
        if len(answer.content) > _MAX_ANSWER:
            raise ClusterFault(f"{method} {path}: the answer is larger than {_MAX_ANSWER} bytes", status=0)
        return _document(answer.content)

    def happened(self, path: str, params: Mapping[str, str]) -> list[tuple[str, Document]]:
        """What the server has to tell of a collection since ``params["resourceVersion"]``: (type, object), oldest
        first. Asks and waits a second, over a request of its own. Raises ClusterFault; 410 when that is too long ago.
        """
        query = {**params, "watch": "true", "timeoutSeconds": "1"}
        answer = self._send("GET", path, query, None, {"Accept": "application/json"}, _SHORT_S)
        if answer.status_code >= 300:
            raise _fault("GET", path, answer)
        told: list[tuple[str, Document]] = []
        for line in answer.content.splitlines():
            event = _document(line)
            found = event.get("object") or {}
            if event.get("type") == "ERROR":
                raise ClusterFault(f"GET {path}: {found.get('message', '')}", status=int(found.get("code") or 0))
            told.append((str(event.get("type")), found))
        return told

    def _send(
        self, method: str, path: str, params: dict[str, str], content: bytes | None, headers: dict[str, str],
        timeout_s: float,
    ) -> httpx2.Response:  # fmt: skip
        timeout = httpx2.Timeout(timeout_s, connect=min(_CONNECT_S, timeout_s))
        client = self._client
        try:
            return client.request(method, path, params=params, content=content, headers=headers, timeout=timeout)
        except (httpx2.HTTPError, OSError, RuntimeError) as error:
            self._renew(client)
            message = f"{method} {path}: the API server at {self.config.cluster.server} does not answer"
            raise ClusterFault(f"{message}: {type(error).__name__}", status=0) from error

    def _renew(self, broken: httpx2.Client) -> None:
        """What is between here and the server may have forgotten the connections that are kept: open new ones."""
        with self._lock:
            if self._client is broken:
                if self._retired is not None:
                    self._retired.close()
                # Others may have requests under way on it, and it may be good enough for them.
                self._client, self._retired = self._open(), broken


def connect(environment: Mapping[str, str]) -> Cluster:
    """The cluster of these surroundings. Raises Stalled (ClusterNotFound) when there is none, or its file is wrong."""
    try:
        from lightkube.config.kubeconfig import KubeConfig
        from lightkube.core.exceptions import ConfigError
    except ImportError as error:
        raise _stalled("the packages for clusters are not installed: install remit[kubernetes]") from error
    try:
        given = environment.get("KUBECONFIG", "").partition(":")[0]
        home = Path(environment.get("HOME", "/nonexistent"), ".kube", "config")
        if given:
            found = KubeConfig.from_file(given)
        elif (SERVICE_ACCOUNT / "token").exists():
            found = KubeConfig.from_service_account(SERVICE_ACCOUNT)
        elif home.exists():
            found = KubeConfig.from_file(home)
        else:
            raise _stalled("there is no cluster here: no KUBECONFIG, no service account, no ~/.kube/config")
        config = found.get()
        if config is None or config.user is None:
            raise _stalled("the kubeconfig names no user: give its current context one")
        return Cluster(config)
    except (ConfigError, KeyError, OSError, ValueError, TypeError, AttributeError) as error:
        raise _stalled(f"the kubeconfig cannot be used: {error}") from error


def bearer(cluster: Cluster) -> str:
    """The token that requests to a cluster carry, asked for anew; "" when they carry none. Blocks. Raises
    ClusterFault."""
    from lightkube.config import client_adapter
    from lightkube.core.exceptions import ConfigError

    auth = client_adapter.user_auth(cluster.config.user)
    if auth is None:
        return ""
    try:
        request = next(auth.sync_auth_flow(httpx2.Request("GET", "https://cluster.invalid/")))
    except (ConfigError, OSError, ValueError, KeyError) as error:
        raise ClusterFault(f"there are no credentials for the cluster: {error}", status=401) from error
    return str(request.headers.get("Authorization", "")).removeprefix("Bearer ")


def _stalled(message: str) -> Stalled:
    return Stalled(message, reason="ClusterNotFound")


def _fault(method: str, path: str, answer: httpx2.Response) -> ClusterFault:
    told = str(_document(answer.content).get("message") or "")[:_SHOWN]
    after: float | None = None
    with contextlib.suppress(ValueError):
        after = max(0.0, min(float(answer.headers.get("Retry-After", "")), 300.0))
    message = f"{method} {path}: HTTP {answer.status_code}" + (f": {told}" if told else "")
    return ClusterFault(message, status=answer.status_code, after=after)


def _document(content: bytes) -> Document:
    try:
        found = json.loads(content) if content else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
