"""How a worker speaks to the engine: one method for each endpoint of a claim."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, TypeVar

import pydantic
from pydantic import BaseModel
from remit_client.assignment import Assignment
from remit_client.connection import Connection
from remit_client.errors import BadAnswer
from remit_client.protocol import Call
from remit_client.retry import RetryPolicy

from controllers.runtime.clock import Clock
from schemas import claims as wire

M = TypeVar("M", bound=BaseModel)

SHORT_S = 10.0
"""Time within which a renewal is tried again; the next one follows anyway."""


class EngineLink:
    """Raises the errors of ``remit_client``: EngineUnreachable after the time that a call is tried, Problem for a
    refusal. ``token`` is the worker's. Belongs to one event loop."""

    def __init__(self, url: str, token: str, *, clock: Clock, chance: Callable[[], float]) -> None:
        self.url = url.rstrip("/")
        self._connection = Connection(
            Assignment(self.url, "worker", token), policy=RetryPolicy(window_s=SHORT_S), clock=clock, chance=chance
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._connection.aclose()

    async def claim(self, executor: str, worker: str, slots: int, key: str, wait_s: int) -> wire.Order | None:
        """Ask for a run; repeated with the same key it brings the same one."""
        message = wire.ClaimMessage(executor=executor, worker=worker, slots=slots)
        call = Call("POST", f"/agent/v1/claims?wait={wait_s}", _body(message), key, wait_s=wait_s)
        return _read(wire.ClaimAnswer, await self._connection.send(call, window_s=None)).order

    async def renew(self, run: str, fence: int, *, started: bool, key: str) -> wire.RenewAnswer:
        """Keep a claim."""
        message = wire.RenewMessage(fence=fence, started=started)
        return _read(wire.RenewAnswer, await self._send(run, "renew", message, key))

    async def release(self, run: str, fence: int, key: str) -> None:
        """Give a claim back."""
        await self._send(run, "release", wire.ReleaseMessage(fence=fence), key)

    async def log(self, run: str, fence: int, stream: str, offset: int, data: bytes, key: str) -> None:
        """Hand in a part of a log."""
        text = base64.b64encode(data).decode("ascii")
        body = json.dumps({"fence": fence, "stream": stream, "offset": offset, "base64": text}).encode()
        await self._connection.send(Call("POST", f"/agent/v1/claims/{run}/log", body, key))

    async def end(self, run: str, message: wire.EndMessage) -> None:
        """Report the end of a run; keyed by its claim, so that it counts once."""
        await self._send(run, "end", message, f"{run}:{message.fence}:end")

    async def _send(self, run: str, verb: str, message: BaseModel, key: str) -> dict[str, Any]:
        return await self._connection.send(Call("POST", f"/agent/v1/claims/{run}/{verb}", _body(message), key))


def _body(message: BaseModel) -> bytes:
    return message.model_dump_json(by_alias=True, exclude_none=True).encode()


def _read(model: type[M], answer: dict[str, Any]) -> M:
    try:
        return model.model_validate(answer)
    except pydantic.ValidationError as error:
        fields = ", ".join(".".join(str(part) for part in found["loc"]) for found in error.errors()[:5])
        raise BadAnswer(f"the engine's answer is not understood ({fields}): are both of the same version?") from None
