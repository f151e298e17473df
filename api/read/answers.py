"""JSON answers, and reading the store for one."""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

from starlette.responses import Response

from api.problems import MEDIA_TYPE, PROBLEM_SCHEMA
from api.read.engine import Blocking
from store.contract import Snapshot, Store

T = TypeVar("T")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of answers that are problems."""
    content = {MEDIA_TYPE: {"schema": PROBLEM_SCHEMA}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def file_of(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of an answer that is text of these types."""
    return {200: {"description": "OK", "content": {kind: {"schema": {"type": "string"}} for kind in media_types}}}


def json_bytes(value: Any) -> bytes:
    """JSON as UTF-8. A lone surrogate, which an agent may write, becomes U+FFFD."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")


def json_response(value: Any, status: int = 200, media_type: str = "application/json") -> Response:
    """An answer."""
    return Response(json_bytes(value), status, media_type=media_type)


class Reader:
    """Reads at one moment, off the event loop. Pages and routes share one."""

    def __init__(self, store: Store, blocking: Blocking) -> None:
        self.store = store
        self._blocking = blocking

    async def read(self, work: Callable[[Snapshot], T]) -> T:
        """``work(snapshot)`` in a thread. Raises StoreError."""
        return await self._blocking.run(self._read, work)

    async def run(self, work: Callable[[], T]) -> T:
        """``work()`` in a thread."""
        return await self._blocking.run(work)

    def _read(self, work: Callable[[Snapshot], T]) -> T:
        with self.store.snapshot() as snapshot:
            return work(snapshot)
