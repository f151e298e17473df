"""An answer that goes on until its reader or the server ends it. Bare ASGI: a thousand of them are cheap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.read.guard import HEAD_KEY
from api.server import DIRECT

Push = Callable[[bytes], bool]
"""Sends a piece at once, while nothing else is being sent; False when the reader has to be waited for, or has gone."""
Chunks = Callable[[asyncio.Future[Any], Push], AsyncIterator[bytes]]
"""Given a future that is done when the reader has gone, gives what to send. What it pushes while it is asked for more
goes before that."""


class Streaming(Response):
    """Sends what ``chunks`` gives, and ends it when the reader leaves. ``ended`` is called once, however it ends."""

    def __init__(
        self,
        chunks: Chunks,
        *,
        media_type: str,
        headers: dict[str, str] | None = None,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._chunks = chunks
        self._ended = ended
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})})
        del self.headers["content-length"]

    def render(self, content: Any) -> bytes:
        """Nothing: the body follows by and by."""
        return b""

    @property
    def body(self) -> bytes:  # type: ignore[override]
        """Nothing at the start."""
        return b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._answer(scope, receive, send)
        finally:
            self._ended()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope.get(HEAD_KEY):
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        gone = asyncio.ensure_future(_gone(receive))
        direct = scope.get("extensions", {}).get(DIRECT)
        body = None if direct is None else direct()
        write = _through(send) if body is None else body.send
        chunks = self._chunks(gone, _never if body is None else body.push)
        try:
            async for chunk in chunks:
                if gone.done():
                    break
                await write(chunk)
        finally:
            gone.cancel()
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _through(send: Send) -> Callable[[bytes], Awaitable[None]]:
    async def write(chunk: bytes) -> None:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})

    return write


def _never(_: bytes) -> bool:
    return False


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def first_of(seconds: float | None, *futures: asyncio.Future[Any]) -> None:
    """Wait until one is done, or for ``seconds``."""
    await asyncio.wait(futures, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
