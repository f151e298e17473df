"""Reading the body of a write: bounded in size and time while it arrives, and then checked field by field."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from api.agents.limits import AgentLimits
from api.problems import Problem, of_validation
from controllers.runtime.clock import Clock, Deadline

M = TypeVar("M", bound=BaseModel)

_MOST_KEY = 200
_SLOT_WAIT_S = 20.0


def idempotency_key(request: Request) -> str:
    """The Idempotency-Key of a write. Raises Problem (400)."""
    return _key(request.headers.getlist("idempotency-key"))


def named_key(request: Request) -> str | None:
    """The Idempotency-Key of a write that may also name it in its body; None without the header. Raises Problem
    (400)."""
    given = request.headers.getlist("idempotency-key")
    return _key(given) if given else None


def is_key(text: str) -> bool:
    """Whether an Idempotency-Key may read so."""
    return 1 <= len(text) <= _MOST_KEY and text.isascii() and text.isprintable()


def _key(given: list[str]) -> str:
    if len(given) != 1 or not is_key(given[0]):
        raise Problem(
            400,
            "IdempotencyKeyMissing",
            f"a write carries one Idempotency-Key header of 1 to {_MOST_KEY} printable ASCII characters: a new one for"
            " each new request, the same one when a request is repeated",
        )
    return given[0]


class Bodies:
    """Reads bodies. Large ones wait until there is room for them in memory."""

    def __init__(self, limits: AgentLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._large = asyncio.Semaphore(limits.large_bodies)

    @asynccontextmanager
    async def read(self, request: Request, *, large: bool, named: bool = True) -> AsyncIterator[bytes]:
        """The body, which is let go of after the block; ``named``: it has to say that it is JSON. Raises Problem (408,
        411, 413, 415, 503)."""
        if named:
            _require_json(request)
        limits = self._limits
        length = _content_length(request)
        limit = limits.large_body if large else limits.small_body
        if length is not None and length > limit:
            raise _too_large(limit)
        if large and (length is None or length > limits.small_body):
            async with self._room():
                yield await self._receive(request, limit, limits.large_body_s)
        else:
            yield await self._receive(request, limit, limits.small_body_s)

    @asynccontextmanager
    async def _room(self) -> AsyncIterator[None]:
        try:
            async with Deadline(self._clock, _SLOT_WAIT_S):
                await self._large.acquire()
        except TimeoutError:
            text = "too many large bodies are being received; try again"
            raise Problem(503, "Overloaded", text, retry_after_s=5) from None
        try:
            yield
        finally:
            self._large.release()

    async def _receive(self, request: Request, limit: int, seconds: float) -> bytes:
        body = bytearray()
        try:
            async with Deadline(self._clock, seconds):
                more = True
                while more:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise Problem(400, "BodyIncomplete", "the connection ended before the body did")
                    body += message.get("body", b"")
                    if len(body) > limit:
                        raise _too_large(limit)
                    more = message.get("more_body", False)
        except TimeoutError:
            text = f"the body was not complete after {seconds:g} s"
            raise Problem(408, "BodyTooSlow", text, headers={"Connection": "close"}) from None
        return bytes(body)


def parse(model: type[M], body: bytes) -> M:
    """The message. Raises Problem (422). Takes a while for a large body: call it in a thread."""
    try:
        return model.model_validate_json(body, by_alias=True, by_name=False)
    except ValidationError as error:
        raise of_validation(error) from None


def _require_json(request: Request) -> None:
    kind, _, parameter = request.headers.get("content-type", "").partition(";")
    charset = parameter.strip().lower().replace('"', "")
    if kind.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise Problem(415, "NotJson", "send the body as JSON: Content-Type: application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "Encoded", "send the body as it is, without Content-Encoding")


def _content_length(request: Request) -> int | None:
    """What was announced; the server has seen to it that it is a number."""
    announced = request.headers.get("content-length")
    return None if announced is None else int(announced)


def _too_large(limit: int) -> Problem:
    return Problem(413, "BodyTooLarge", f"this request may have {limit:,} bytes")
