"""Asks the engine whether a call may be made, and waits for the answer as long as the agent lets us."""

from __future__ import annotations

import json
import ssl
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

from remit_client.hooks.calls import ToolCall
from remit_client.hooks.dialects import Answer
from remit_client.hooks.endings import ToolEnd

ANSWER_S = 15.0
"""Longest wait for one answer that the engine does not hold back."""
LONGEST_HOLD_S = 50.0
MAX_ANSWER = 1024 * 1024
REPORT_S = 5.0
"""How long a call that has ended may keep the agent: there is nothing to hold up any more."""
RESTART_S = 20.0
"""How long an engine that cannot be reached is waited for: a restart, and no more; the agent stands still meanwhile."""


class NoAnswer(Exception):
    """There is no answer to go by. The message says why, without the token."""


class NotStarted(NoAnswer):
    """The agent was not started by Remit, or what it was given cannot be used."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Where to ask, and as which run."""

    host: str
    port: int
    secure: bool
    prefix: str
    token: str
    run: str = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], token: str = "") -> Engine:
        """REMIT_URL, REMIT_RUN and REMIT_TOKEN, or ``token`` instead of that. Raises NotStarted."""
        url, token = environ.get("REMIT_URL", ""), token or environ.get("REMIT_TOKEN", "")
        if not url or not token:
            missing = "REMIT_URL" if not url else "REMIT_TOKEN"
            raise NotStarted(f"{missing} is not set: this agent was not started by Remit")
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise NotStarted("REMIT_URL is not an address such as http://127.0.0.1:8421") from error
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise NotStarted("REMIT_URL is not an address such as http://127.0.0.1:8421")
        if not all("!" <= c <= "~" for c in token):
            raise NotStarted("REMIT_TOKEN has characters that a token cannot have")
        return cls(
            parts.hostname, port, parts.scheme == "https", parts.path.rstrip("/"), token, environ.get("REMIT_RUN", "")
        )

    def exchange(
        self, method: str, path: str, body: bytes | None, key: str, timeout_s: float
    ) -> tuple[int, dict[str, Any], float]:
        """Status, JSON answer and the seconds of Retry-After (0 without). Raises OSError, HTTPException and ValueError
        for what is no answer."""
        if self.secure:
            wire: HTTPConnection = HTTPSConnection(
                self.host, self.port, timeout=timeout_s, context=ssl.create_default_context()
            )
        else:
            wire = HTTPConnection(self.host, self.port, timeout=timeout_s)
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json", "User-Agent": "remit-hook"}
        headers["Remit-Channel"] = "hook"
        if body is not None:
            headers |= {"Content-Type": "application/json", "Idempotency-Key": key}
        try:
            wire.request(method, self.prefix + path, body=body, headers=headers)
            response = wire.getresponse()
            data = response.read(MAX_ANSWER + 1)
            if len(data) > MAX_ANSWER:
                raise ValueError("the answer is too large")
            after = response.headers.get("Retry-After", "")
            answer = json.loads(data) if data else {}
            if not isinstance(answer, dict):
                raise ValueError("the answer is no JSON object")
            return response.status, answer, float(after) if after.isdigit() else 0.0
        finally:
            wire.close()


def ask(engine: Engine, call: ToolCall, wait_s: float) -> Answer:
    """Put the call before the gate. Where a person has to answer, the answer is waited for up to ``wait_s`` seconds.

    An engine that restarts is waited for a while. Raises NoAnswer for everything that is no answer, and for a run that
    is over.
    """
    ends = time.monotonic() + wait_s
    key = call.key or str(uuid.uuid4())
    body = json.dumps({"tool": call.tool, "args": call.args, "idempotencyKey": key}).encode()
    wire = _sent(engine, "POST", "/agent/v1/authorize", body, key, ends, 0)
    while True:
        answer = _answer(wire)
        left = ends - time.monotonic()
        if answer.decision != "ask" or left < 1:
            return answer
        number = wire.get("decisionId")
        if not isinstance(number, str) or not number:
            raise NoAnswer("the engine's answer names no decision")
        if wire.get("authorizeAgain") is True:  # answered; the arguments held a secret and were not kept
            wire = _sent(engine, "POST", "/agent/v1/authorize", body, key, ends, 0)
            continue
        hold = min(LONGEST_HOLD_S, left)
        path = f"/agent/v1/decisions/{quote(number, safe='')}?wait={int(hold)}"
        wire = _sent(engine, "GET", path, None, key, ends, hold)


def report(engine: Engine, end: ToolEnd) -> None:
    """Tell what came of a call. Tried twice within REPORT_S; raises NoAnswer, OSError, HTTPException and ValueError."""
    if not engine.run:
        raise NotStarted("REMIT_RUN is not set: this agent was not started by Remit")
    body = json.dumps(end.to_wire()).encode()
    key = f"end/{end.call.key}"[:200] if end.call.key else str(uuid.uuid4())
    path = f"/agent/v1/runs/{quote(engine.run, safe='')}/tool-results"
    for last in (False, True):
        try:
            status, answer, _ = engine.exchange("POST", path, body, key, REPORT_S / 2)
        except (OSError, HTTPException, ValueError):
            if last:
                raise
            continue
        if status == 200:
            return
        if last or status not in (429, 502, 503, 504):
            raise NoAnswer(f"the engine refuses the report ({status}): {str(answer.get('detail') or '')[:500]}")


def _answer(wire: dict[str, Any]) -> Answer:
    words = {name: str(wire.get(name) or "") for name in ("decision", "reason", "rule", "approvalRequest")}
    if words["decision"] not in ("allow", "deny", "ask"):
        raise NoAnswer("the engine's answer holds no decision")
    return Answer(words["decision"], words["reason"], words["rule"], words["approvalRequest"])


def _sent(
    engine: Engine, method: str, path: str, body: bytes | None, key: str, ends: float, hold: float
) -> dict[str, Any]:
    started, pause = time.monotonic(), 0.1
    while True:
        left = ends - time.monotonic()
        after = 0.0
        try:
            status, answer, after = engine.exchange(method, path, body, key, max(1.0, min(ANSWER_S + hold, left + 1)))
        except (OSError, HTTPException, ValueError) as error:
            why = f"the engine gives no answer: {_words(error)}"
        else:
            if status == 200:
                return answer
            detail = str(answer.get("detail") or answer.get("title") or "")[:500]
            why = f"the engine refuses the question ({status}): {detail}"
            if status == 401:
                raise NoAnswer("the run of this agent is over: stop working")
            if status not in (429, 502, 503, 504):
                raise NoAnswer(why)
        pause = min(2.0, max(pause * 2, after))
        now = time.monotonic()
        if now + pause > min(ends, started + RESTART_S + hold):
            raise NoAnswer(why)
        time.sleep(pause)  # noqa: TID251  a hook waits in real time


def _words(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__
