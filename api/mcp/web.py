"""The proxy on a port: streamable HTTP, each request under the token of a run."""

from __future__ import annotations

import hashlib
import hmac

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api.agents.callers import CHALLENGE, bearer
from api.hosts import HostGuard
from api.mcp.engine import Caller, NoLeave, RunOver
from api.mcp.proxy import REFUSED, Context, Proxy
from api.problems import ErrorBoundary, Problem

PATH = "/mcp"
PROXY_TOKEN = "x-remit-proxy-token"  # noqa: S105  the name of a header
MAX_SESSIONS = 500


def caller_of(token: str) -> Caller:
    """The caller that a token stands for."""
    return Caller(token, hashlib.sha256(token.encode()).hexdigest()[:32])


def who(context: Context) -> Caller:
    """The caller of a request that came in over HTTP: its own token counts, whatever session it names."""
    request = context.request
    if not isinstance(request, Request):
        raise MCPError(code=REFUSED, message="Remit: the request carries no token")
    try:
        return caller_of(bearer(request))
    except Problem:
        raise MCPError(code=REFUSED, message="Remit: the request carries no token") from None


def application(proxy: Proxy, *, hosts: tuple[str, ...] = (), proxy_token: str = "") -> ASGIApp:
    """The application. It answers to loopback names and to ``hosts``; with ``proxy_token``, only to those who send it
    in ``X-Remit-Proxy-Token``."""
    inner = proxy.server().streamable_http_app(
        streamable_http_path=PATH,
        max_sessions=MAX_SESSIONS,
        # HostGuard looks at the name; a page elsewhere cannot send the header with the token.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    return ErrorBoundary(HostGuard(Door(inner, proxy, proxy_token), names=hosts))


class Door:
    """Lets in whom the engine knows. A session belongs to the token that began it."""

    def __init__(self, app: ASGIApp, proxy: Proxy, proxy_token: str) -> None:
        self._app = app
        self._proxy = proxy
        self._proxy_token = proxy_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            caller = await self._identified(Request(scope))
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        access = AccessToken(token=caller.token, client_id=caller.uid, scopes=[])
        await self._app({**scope, "user": AuthenticatedUser(access)}, receive, send)

    async def _identified(self, request: Request) -> Caller:
        if self._proxy_token:
            given = request.headers.getlist(PROXY_TOKEN)
            if len(given) != 1 or not hmac.compare_digest(given[0].encode(), self._proxy_token.encode()):
                raise Problem(401, "ProxyTokenMissing", "send the proxy's token: X-Remit-Proxy-Token")
        caller = caller_of(bearer(request))
        try:
            await self._proxy.check(caller)
        except RunOver as over:
            raise Problem(401, "TokenInvalid", str(over), headers=CHALLENGE) from None
        except NoLeave as error:
            raise Problem(503, "NoLeave", str(error), retry_after_s=2) from None
        return caller
