"""A signed POST. ``X-Remit-Signature: sha256=<hex>`` is the HMAC of ``<X-Remit-Timestamp>.<body>``; the body and the
Idempotency-Key are the same at every try."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import datetime

from controllers.notify import http
from controllers.notify.addresses import Resolve, system_resolve
from controllers.notify.message import Outgoing
from schemas.channel import Webhook

_WHAT = "webhook"


class WebhookSender:
    """See ``message.Sender``. ``private`` is whether its address may be one that is not public."""

    def __init__(
        self, spec: Webhook, secret: Callable[[], str] | None, *, private: bool, now: Callable[[], datetime],
        monotonic: Callable[[], float], resolve: Resolve = system_resolve,
    ) -> None:  # fmt: skip
        self._spec = spec
        self._secret = secret
        self._private = private
        self._now = now
        self._monotonic = monotonic
        self._resolve = resolve

    def send(self, message: Outgoing) -> str:
        """See ``Sender``."""
        body = json.dumps(message.to_wire(), ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
        stamp = str(int(self._now().timestamp()))
        headers = {
            "content-type": "application/json",
            "user-agent": "remit",
            "idempotency-key": message.key,
            "x-remit-timestamp": stamp,
        }
        if self._secret is not None:
            headers["x-remit-signature"] = f"sha256={signature(self._secret(), stamp, body)}"
        answer = http.post(
            self._spec.url, headers, body, what=_WHAT, private=self._private, monotonic=self._monotonic,
            resolve=self._resolve,
        )  # fmt: skip
        http.require_taken(answer, _WHAT)
        return ""


def signature(secret: str, stamp: str, body: bytes) -> str:
    """Hex."""
    return hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
