"""Sends calls to the engine and keeps trying while it restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import httpx2

from remit_client.assignment import Assignment
from remit_client.clock import Clock
from remit_client.errors import BadAnswer, EngineUnreachable, Problem, RateLimited
from remit_client.protocol import PASSING_STATUSES, Call, read_answer
from remit_client.retry import RetryPolicy, retry_after

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 30.0
"""Longest wait for a whole answer, beyond the time that the call itself allows the engine to hold it back."""

MAX_ANSWER_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Passing:
    """Why a try did not count. ``unsound`` ones came with an answer, only a senseless one."""

    error: Exception
    after_s: float | None = None
    unsound: bool = False


class Connection:
    """A pool of connections to one engine. Belongs to one event loop; close it with ``aclose``."""

    def __init__(
        self,
        assignment: Assignment,
        *,
        policy: RetryPolicy,
        clock: Clock,
        chance: Callable[[], float],
        transport: httpx2.AsyncBaseTransport | None = None,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._chance = chance
        self._answer_timeout_s = answer_timeout_s
        self._url = assignment.url
        self._client = httpx2.AsyncClient(
            headers={
                "Authorization": f"Bearer {assignment.token}",
                "Accept": "application/json, application/problem+json",
                # No compression: a small answer cannot unfold into a large one.
                "Accept-Encoding": "identity",
                "User-Agent": "remit-client",
            },
            follow_redirects=False,
            # A proxy from the environment must never see calls that stay on this machine.
            trust_env=not _is_loopback(assignment.url),
            transport=transport,
        )

    async def aclose(self) -> None:
        """Close every connection. Idempotent."""
        await self._client.aclose()

    async def send(self, call: Call, *, window_s: float | None = None) -> dict[str, Any]:
        """Send until the engine has answered, and return its answer.

        Transport faults and 502, 503, 504 are tried again within the policy's window (or ``window_s``); so is 429,
        after the time it names. Every try carries the same bytes and the same Idempotency-Key, so that a try whose
        answer was lost is not carried out twice. Raises a Problem for a refusal, EngineUnreachable when the window is
        over, BadAnswer when answers stay senseless. With ``window_s`` the last try, too, ends within it.
        """
        window = self._policy.window_s if window_s is None else window_s
        started = self._clock.monotonic()
        tries = unsound = 0
        while True:
            spent = self._clock.monotonic() - started
            result = await self._try(call, None if window_s is None else window_s - spent)
            if not isinstance(result, _Passing):
                return result
            tries += 1
            unsound += result.unsound
            if unsound >= self._policy.unsound_tries:
                raise result.error
            pause = self._policy.pause(tries, self._chance())
            if result.after_s is not None:
                pause = max(pause, result.after_s)
            elapsed = self._clock.monotonic() - started
            if elapsed + pause > window:
                if isinstance(result.error, RateLimited):
                    raise result.error
                raise EngineUnreachable(
                    f"{call.what}: no answer from {self._url} after {tries} tries in {elapsed:.0f} s: "
                    f"{_describe(result.error)}",
                    tries=tries,
                ) from result.error
            await self._clock.sleep(pause)

    async def _try(self, call: Call, longest_s: float | None) -> dict[str, Any] | _Passing:
        timeout_s = self._answer_timeout_s + call.wait_s
        if longest_s is not None:
            timeout_s = max(0.1, min(timeout_s, longest_s))
        try:
            # The outer limit is for an engine, or something posing as one, that drips its answer byte by byte.
            async with asyncio.timeout(timeout_s + (CONNECT_TIMEOUT_S if longest_s is None else 0)):
                status, headers, body = await self._exchange(call, timeout_s)
        except (httpx2.TransportError, TimeoutError) as error:
            return _Passing(error)
        except (httpx2.HTTPError, BadAnswer) as error:
            return _Passing(error if isinstance(error, BadAnswer) else _garbled(call, error), unsound=True)
        after_s = retry_after(headers.get("retry-after"), headers.get("date"))
        try:
            return read_answer(call, status, body, after_s)
        except RateLimited as error:
            return _Passing(error, after_s)
        except Problem as error:
            if error.status in PASSING_STATUSES:
                return _Passing(error, after_s)
            if error.status >= 500 and error.status != 501:
                return _Passing(error, after_s, unsound=True)
            raise
        except BadAnswer as error:
            return _Passing(error, unsound=True)

    async def _exchange(self, call: Call, timeout_s: float) -> tuple[int, httpx2.Headers, bytes]:
        headers = {}
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        if call.key is not None:
            headers["Idempotency-Key"] = call.key
        request = self._client.build_request(
            call.method,
            self._url + call.path,
            content=call.body,
            headers=headers,
            timeout=httpx2.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
        )
        response = await self._client.send(request, stream=True)
        try:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise BadAnswer(f"{call.what}: the answer is compressed, which was not asked for")
            parts: list[bytes] = []
            size = 0
            async for part in response.aiter_raw():
                size += len(part)
                if size > MAX_ANSWER_BYTES:
                    raise BadAnswer(f"{call.what}: the answer is larger than {MAX_ANSWER_BYTES // 1024 // 1024} MB")
                parts.append(part)
        finally:
            await response.aclose()
        return response.status_code, response.headers, b"".join(parts)


def _garbled(call: Call, error: Exception) -> BadAnswer:
    garbled = BadAnswer(f"{call.what}: the answer is not proper HTTP: {_describe(error)}")
    garbled.__cause__ = error
    return garbled


def _describe(error: Exception) -> str:
    """Words for a fault. Only our own errors and HTTP faults come here; neither holds a header, and so no token."""
    return str(error) or type(error).__name__


def _is_loopback(url: str) -> bool:
    host = httpx2.URL(url).host
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
