"""What the engine keeps in the cluster so that its API server finds and trusts the admission port: a Secret with the
certificate, which all engines of one store share, and two fields of a ValidatingWebhookConfiguration.

Every function blocks, may run twice, and raises Retry when the cluster does not do what it is asked.
"""

from __future__ import annotations

import base64
import binascii
import json
import ssl
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from controllers.admission import certificate
from controllers.admission.certificate import Pair
from schemas.admission_config import ACCOUNT, ClusterAccess, Registration
from schemas.errors import Retry

_STEP_S = 5.0
_AGAIN_S = 5.0
_TRIES = 3
_CERTIFICATE, _KEY = "tls.crt", "tls.key"


class Cluster:
    """Requests to the API server, as whoever the token names."""

    def __init__(self, access: ClusterAccess, project: Path) -> None:
        """``project`` is where relative files start."""
        self._access = access
        self._project = project

    def send(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """(status, document). Raises Retry when it cannot be asked."""
        url = self._access.address.rstrip("/") + path
        try:
            token = (self._project / self._access.token_file).read_text("utf-8").strip()
            trust = ssl.create_default_context(cafile=str(self._project / self._access.ca_file))
            headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
            with httpx2.Client(verify=trust, timeout=_STEP_S, trust_env=False, headers=headers) as client:
                answer = client.request(method, url, json=body)
                found = json.loads(answer.content)
        except (OSError, UnicodeError, ssl.SSLError) as error:
            raise Retry(f"admission.registration.cluster: {type(error).__name__}: {error}", after=_AGAIN_S) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, RecursionError) as error:
            # Its text may hold what was sent.
            text = f"the API server {self._access.address} does not answer: {type(error).__name__}"
            raise Retry(text, after=_AGAIN_S) from None
        return answer.status_code, found if isinstance(found, dict) else {}


def shared_pair(
    cluster: Cluster, config: Registration, hosts: Sequence[str], now: Callable[[], datetime],
    account: Path = Path(ACCOUNT),
) -> Pair:  # fmt: skip
    """The certificate in the Secret; made and put there when there is none, or it ends soon. Of two engines that make
    one at a time the first counts. Raises Retry."""
    assert config.secret is not None
    namespace = config.namespace or _own_namespace(account)
    path = f"/api/v1/namespaces/{namespace}/secrets/{config.secret}"
    for _ in range(_TRIES):
        status, secret = cluster.send("GET", path)
        if status != 200:
            _complain(status, f"get the Secret {namespace}/{config.secret}")
        pair = _pair_in(secret)
        if pair is not None and certificate.usable(pair, hosts, now()):
            return pair
        made = certificate.make(hosts, now())
        data = {**(secret.get("data") or {}), _CERTIFICATE: _coded(made.certificate), _KEY: _coded(made.key)}
        status, _answer = cluster.send("PUT", path, {**secret, "data": data})
        if status == 200:
            return made
        if status != 409:
            _complain(status, f"update the Secret {namespace}/{config.secret}")
    raise Retry(f"the Secret {namespace}/{config.secret} is being written by others", after=_AGAIN_S)


def register(cluster: Cluster, config: Registration, pair: Pair, path: str) -> bool:
    """Have every webhook of the configuration ask at ``path`` and trust the pair; whether anything changed.
    Raises Retry."""
    where = f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{config.configuration}"
    what = f"the ValidatingWebhookConfiguration {config.configuration}"
    for _ in range(_TRIES):
        status, found = cluster.send("GET", where)
        if status != 200:
            _complain(status, f"get {what}")
        changed = [_told(webhook, pair, path) for webhook in found.get("webhooks") or ()]
        if not any(changed):
            return False
        status, _answer = cluster.send("PUT", where, found)
        if status == 200:
            return True
        if status != 409:
            _complain(status, f"update {what}")
    raise Retry(f"{what} is being written by others", after=_AGAIN_S)


def client_config(pair: Pair, url: str) -> dict[str, str]:
    """``clientConfig`` of a webhook for whoever keeps the configuration by hand."""
    return {"url": url, "caBundle": _coded(pair.bundle)}


def _told(webhook: dict[str, Any], pair: Pair, path: str) -> bool:
    config = webhook.setdefault("clientConfig", {})
    before = json.dumps(config, sort_keys=True)
    config["caBundle"] = _coded(pair.bundle)
    if "service" in config:
        config["service"]["path"] = path
    elif "url" in config:
        config["url"] = urlsplit(config["url"])._replace(path=path).geturl()
    return json.dumps(config, sort_keys=True) != before


def _pair_in(secret: dict[str, Any]) -> Pair | None:
    data = secret.get("data") or {}
    try:
        return Pair(base64.b64decode(data[_CERTIFICATE]), base64.b64decode(data[_KEY]))
    except (KeyError, TypeError, binascii.Error):
        return None


def _coded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _own_namespace(account: Path) -> str:
    try:
        return (account / "namespace").read_text("ascii").strip()
    except (OSError, UnicodeError) as error:
        text = "admission.registration.namespace is not set, and this is no pod: its namespace is not known"
        raise Retry(text, after=60.0) from error


def _complain(status: int, what: str) -> None:
    why = {
        401: "its token is not accepted",
        403: "its service account may not (manifests/install has the Role)",
        404: "there is none (manifests/install has it)",
    }.get(status, f"HTTP {status}")
    raise Retry(f"the engine cannot {what}: {why}", after=_AGAIN_S)
