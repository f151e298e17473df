"""What the engine keeps in the cluster so that its API server finds and trusts the admission port: a Secret with the
certificate, which all engines of one store share, and two fields of a ValidatingWebhookConfiguration.

Every function blocks, may run twice, and raises Retry when the cluster does not do what it is asked.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from controllers.admission import certificate
from controllers.admission.certificate import Pair
from controllers.web.kubernetes import Api, ClusterFault
from schemas.admission_config import Registration
from schemas.errors import Retry

_AGAIN_S = 5.0
_TRIES = 3
_CERTIFICATE, _KEY = "tls.crt", "tls.key"


def shared_pair(
    api: Api, namespace: str, config: Registration, hosts: Sequence[str], now: Callable[[], datetime]
) -> Pair:  # fmt: skip
    """The certificate in the Secret; made and put there when there is none, or it ends soon. Of two engines that make
    one at a time the first counts. Raises Retry."""
    assert config.secret is not None
    path = f"/api/v1/namespaces/{namespace}/secrets/{config.secret}"
    what = f"the Secret {namespace}/{config.secret}"
    for _ in range(_TRIES):
        secret = _ask(api, "GET", path, what)
        pair = _pair_in(secret)
        if pair is not None and certificate.usable(pair, hosts, now()):
            return pair
        made = certificate.make(hosts, now())
        data = {**(secret.get("data") or {}), _CERTIFICATE: _coded(made.certificate), _KEY: _coded(made.key)}
        if _ask(api, "PUT", path, what, {**secret, "data": data}):
            return made
    raise Retry(f"{what} is being written by others", after=_AGAIN_S)


def register(api: Api, config: Registration, pair: Pair, path: str) -> bool:
    """Have every webhook of the configuration ask at ``path`` and trust the pair; whether anything changed.
    Raises Retry."""
    where = f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{config.configuration}"
    what = f"the ValidatingWebhookConfiguration {config.configuration}"
    for _ in range(_TRIES):
        found = _ask(api, "GET", where, what)
        changed = [_told(webhook, pair, path) for webhook in found.get("webhooks") or ()]
        if not any(changed):
            return False
        if _ask(api, "PUT", where, what, found):
            return True
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


def _ask(api: Api, method: str, path: str, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The document that was answered; {} where somebody else wrote it meanwhile. Raises Retry."""
    try:
        return api.ask(method, path, body=body)
    except ClusterFault as fault:
        if fault.status == 409:
            return {}
        why = {
            403: "its service account may not (manifests/install has the Role)",
            404: "there is none (manifests/install has it)",
        }.get(fault.status, str(fault))
        verb = "get" if method == "GET" else "update"
        raise Retry(f"the engine cannot {verb} {what}: {why}", after=_AGAIN_S) from fault
