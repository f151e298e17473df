"""A chat of Telegram, one way: plain text, so that nothing in it is markup. The service knows no idempotency key: a
message whose answer got lost is sent once more, and carries the key's end to be known by."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from controllers.notify import http
from controllers.notify.message import Outgoing
from decisions import visible
from schemas.channel import Telegram

API = "https://api.telegram.org"
LONGEST = 4_096
_WHAT = "Telegram"


class TelegramSender:
    """See ``message.Sender``."""

    def __init__(
        self, spec: Telegram, token: Callable[[], str], *, monotonic: Callable[[], float], api: str = API,
        private: bool = False,
    ) -> None:  # fmt: skip
        self._spec = spec
        self._token = token
        self._monotonic = monotonic
        self._api = api
        self._private = private

    def send(self, message: Outgoing) -> str:
        """See ``Sender``. Returns the number of the message."""
        body: dict[str, Any] = {
            "chat_id": self._spec.chat_id,
            "text": visible.block(f"{message.title}\n{message.text}", LONGEST),
            "link_preview_options": {"is_disabled": True},
        }
        if self._spec.thread_id is not None:
            body["message_thread_id"] = self._spec.thread_id
        answer = http.post(
            f"{self._api}/bot{self._token()}/sendMessage", {"content-type": "application/json"},
            json.dumps(body).encode(), what=_WHAT, private=self._private, monotonic=self._monotonic,
        )  # fmt: skip
        said = _object(answer.body)
        wait = _object_of(said.get("parameters")).get("retry_after")
        if isinstance(wait, int) and not isinstance(wait, bool) and wait >= 0:
            answer = http.Answer(answer.status, answer.body, min(float(wait), http.LONGEST_WAIT_S))
        http.require_taken(answer, _WHAT, visible.line(str(said.get("description", "")), 200))
        return str(_object_of(said.get("result")).get("message_id", ""))


def _object(body: bytes) -> dict[str, Any]:
    try:
        return _object_of(json.loads(body))
    except (ValueError, RecursionError):
        return {}


def _object_of(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
