"""The engine as the proxy asks it: over the agent port, with the token of the run whose agent calls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, ValidationError

from controllers.runtime.clock import Clock
from schemas.authorize import Decision, DecisionWord
from schemas.policy import Risk
from schemas.tool_listing import JudgedTools, ServerView

M = TypeVar("M", bound=BaseModel)
ANSWER_S = 15.0
"""Longest wait for one answer that the engine does not hold back."""
RESTART_S = 20.0
"""How long an engine that cannot be reached is waited for: a restart, and no more."""
REPORT_S = 5.0
LONGEST_HOLD_S = 25
MAX_ANSWER = 4 * 1024 * 1024
_PASSING = (429, 502, 503, 504)


class NoLeave(Exception):
    """There is no answer to go by, so nothing may be done. The message says why, without the token."""


class RunOver(NoLeave):
    """The token counts no more: its run has ended, or it never was one."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The run whose agent calls. ``uid`` names it inside this process; two tokens are never the same caller."""

    token: str = field(repr=False)
    uid: str


class Engine:
    """The agent port. ``restart_s`` is how long an engine that does not answer is waited for."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        restart_s: float = RESTART_S,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._clock = clock
        self._restart_s = restart_s
        self._client = httpx2.AsyncClient(
            base_url=url, trust_env=False, follow_redirects=False, timeout=ANSWER_S, transport=transport,
            limits=httpx2.Limits(max_connections=200, max_keepalive_connections=50),
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def view(self, caller: Caller, server: str) -> ServerView:
        """How the ToolServer is declared. Raises NoLeave."""
        wire = await self._sent(caller, "GET", f"/agent/v1/tool-servers/{quote(server, safe='')}")
        return _read(ServerView, wire)

    async def tools(self, caller: Caller, server: str, definitions: Sequence[Mapping[str, Any]]) -> JudgedTools:
        """Tell what the server offers; which of it this agent is shown. Raises NoLeave."""
        body = {"definitions": list(definitions)}
        wire = await self._sent(caller, "POST", f"/agent/v1/tool-servers/{quote(server, safe='')}/tools", body)
        return _read(JudgedTools, wire)

    async def authorize(
        self, caller: Caller, tool: str, args: Mapping[str, Any], key: str, *, target: str, hinted_risk: Risk | None
    ) -> Decision:
        """May the call be made? Raises NoLeave."""
        body: dict[str, Any] = {"tool": tool, "args": args, "idempotencyKey": key}
        if target:
            body["target"] = target[:2000]
        if hinted_risk is not None:
            body["hintedRisk"] = hinted_risk.value
        return _decision(await self._sent(caller, "POST", "/agent/v1/authorize", body, key=key))

    async def decision(self, caller: Caller, decision_id: str, wait_s: int) -> Decision:
        """The decision, as soon as there is one, else after ``wait_s`` seconds. Raises NoLeave."""
        path = f"/agent/v1/decisions/{quote(decision_id, safe='')}?wait={wait_s}"
        return _decision(await self._sent(caller, "GET", path, wait_s=wait_s))

    async def report(self, caller: Caller, run: str, result: Mapping[str, Any], key: str) -> bool:
        """Tell how a call ended; whether that was taken in. Never raises for what the engine says: the call is made."""
        path = f"/agent/v1/runs/{quote(run, safe='')}/tool-results"
        try:
            await self._sent(caller, "POST", path, result, key=key, restart_s=REPORT_S)
        except NoLeave:
            return False
        return True

    async def _sent(
        self,
        caller: Caller,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        key: str = "",
        wait_s: float = 0,
        restart_s: float | None = None,
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {caller.token}", "Accept": "application/json", "User-Agent": "remit-mcp"}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            try:
                content = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
            except (ValueError, UnicodeEncodeError, RecursionError):
                raise NoLeave("the arguments hold what JSON cannot carry") from None
        if key:
            headers["Idempotency-Key"] = key
        ends = self._clock.monotonic() + (self._restart_s if restart_s is None else restart_s) + wait_s
        pause = 0.05
        while True:
            after = 0.0
            try:
                status, answer, after = await self._exchange(method, path, content, headers, ANSWER_S + wait_s)
            except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, RecursionError) as error:
                why = f"the engine gives no answer ({type(error).__name__})"
            else:
                if status == 200:
                    return answer
                detail = str(answer.get("detail") or answer.get("title") or "")[:500]
                if status == 401:
                    raise RunOver(f"the run of this agent is over, or its token is not valid: {detail}")
                why = f"the engine refuses the question ({status}): {detail}"
                if status not in _PASSING:
                    raise NoLeave(why)
            pause = min(2.0, max(pause * 2, after))
            if self._clock.monotonic() + pause > ends:
                raise NoLeave(why)
            await self._clock.sleep(pause)

    async def _exchange(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str], timeout_s: float
    ) -> tuple[int, dict[str, Any], float]:
        """Status, JSON answer, seconds of Retry-After. Raises HTTPError, ValueError for what is no answer."""
        request = self._client.build_request(method, path, content=content, headers=headers, timeout=timeout_s)
        response = await self._client.send(request, stream=True)
        try:
            data = bytearray()
            async for chunk in response.aiter_bytes():
                data += chunk
                if len(data) > MAX_ANSWER:
                    raise ValueError("the answer is too large")
        finally:
            await response.aclose()
        answer = json.loads(data) if data else {}
        if not isinstance(answer, dict):
            raise ValueError("the answer is no JSON object")
        after = response.headers.get("retry-after", "")
        return response.status_code, answer, float(after) if after.isdigit() and len(after) < 5 else 0.0


def _decision(wire: dict[str, Any]) -> Decision:
    found = _read(Decision, wire)
    if found.decision is DecisionWord.ALLOW and not found.decision_id:
        raise NoLeave("the engine's answer names no decision")
    return found


def _read(model: type[M], wire: dict[str, Any]) -> M:
    known = {field.alias or name for name, field in model.model_fields.items()}
    try:
        # A newer engine may say more; what it says of the fields that are known here must be right.
        return model.model_validate({name: value for name, value in wire.items() if name in known}, by_name=False)
    except ValidationError:
        raise NoLeave("the engine's answer cannot be read") from None
