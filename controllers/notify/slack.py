"""A channel of Slack, one way: text in which ``&``, ``<`` and ``>`` are escaped and nothing is markup."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from controllers.notify import http
from controllers.notify.message import Outgoing
from decisions import visible
from schemas.channel import Slack
from schemas.errors import Retry, Terminal

API = "https://slack.com/api"
LONGEST = 4_000
_WHAT = "Slack"
_PASSING = frozenset(
    {"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout",
     "invalid_auth", "not_authed", "token_expired", "token_revoked", "account_inactive", "not_in_channel",
     "missing_scope"}
)  # fmt: skip
"""Errors that time or a person mends without the message being another one."""


class SlackSender:
    """See ``message.Sender``."""

    def __init__(
        self, spec: Slack, token: Callable[[], str], *, monotonic: Callable[[], float], api: str = API,
        private: bool = False,
    ) -> None:  # fmt: skip
        self._spec = spec
        self._token = token
        self._monotonic = monotonic
        self._api = api
        self._private = private

    def send(self, message: Outgoing) -> str:
        """See ``Sender``. Returns the time stamp that names the message."""
        text = visible.block(f"{message.title}\n{message.text}", LONGEST)
        body = {
            "channel": self._spec.channel,
            "text": text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
            "mrkdwn": False,
            "parse": "none",
            "unfurl_links": False,
            "unfurl_media": False,
        }
        headers = {
            "content-type": "application/json; charset=utf-8",
            "authorization": f"Bearer {self._token()}",
        }
        answer = http.post(
            f"{self._api}/chat.postMessage", headers, json.dumps(body).encode(), what=_WHAT, private=self._private,
            monotonic=self._monotonic,
        )  # fmt: skip
        http.require_taken(answer, _WHAT)
        said = _object(answer.body)
        if said.get("ok") is True:
            return str(said.get("ts", ""))
        error = visible.line(str(said.get("error", "no answer that can be read")), 100)
        if error in _PASSING or not said:
            raise Retry(f"{_WHAT} says {error}", after=answer.after)
        raise Terminal(f"{_WHAT} says {error}")


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
