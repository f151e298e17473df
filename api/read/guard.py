"""Who may ask, what may be asked, and the headers that every answer carries. Pure ASGI: streams pass untouched."""

from __future__ import annotations

import base64
import binascii
import hmac

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Problem

OPEN_PATHS = frozenset({"/healthz"})
"""Answered without a token: they tell nothing but that somebody is there."""
BARE_PATHS = frozenset({"/readyz"})
"""Answered without a token, too, but with nothing more than yes or no: whoever probes has none."""
BARE_KEY = "remit.bare"
"""In the scope of a request for one of BARE_PATHS that carries no token where one is wanted."""
HEAD_KEY = "remit.head"
"""In the scope of a request that was HEAD: whoever streams ends after the headers."""

CONTENT_SECURITY_POLICY = b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"cache-control", b"no-store"),
)


class SecurityHeaders:
    """Adds the headers that are not there: a page sets its own policy, a static file its own caching."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                there = {name.lower() for name, _ in headers}
                message = {**message, "headers": [*headers, *(h for h in _HEADERS if h[0] not in there)]}
            await send(message)

        await self._app(scope, receive, guarded)


class ReadOnly:
    """Answers 405 to everything but GET and HEAD. HEAD runs the GET route and drops its body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] == "GET":
            await self._app(scope, receive, send)
            return
        if scope["method"] != "HEAD":
            text = "nothing here changes the world: declare it by commit, or use the remit command"
            await Problem(405, "MethodNotAllowed", text, headers={"Allow": "GET, HEAD"}).response()(
                scope, receive, send
            )
            return

        async def headers_only(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET", HEAD_KEY: True}, receive, headers_only)


class TokenGuard:
    """Answers 401 to whoever does not carry the token: as ``Authorization: Bearer``, or as the password of Basic, which
    browsers can send. None lets everybody in."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == "http"
            and self._token is not None
            and scope["path"] not in OPEN_PATHS
            and not self._is_proven(scope)
        ):
            if scope["path"] in BARE_PATHS:
                await self._app({**scope, BARE_KEY: True}, receive, send)
                return
            headers = {"WWW-Authenticate": 'Basic realm="remit", charset="UTF-8"'}
            text = "this server wants a token: send it as Authorization: Bearer, or as the password of Basic"
            await Problem(401, "Unauthorized", text, headers=headers).response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_proven(self, scope: Scope) -> bool:
        assert self._token is not None
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(_secret_of(given[0]), self._token)


def _secret_of(header: bytes) -> bytes:
    """What an Authorization header carries; b"" when that is nothing that we know."""
    scheme, _, rest = header.strip().partition(b" ")
    if scheme.lower() == b"bearer":
        return rest.strip()
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return b""
