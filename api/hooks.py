"""The hook port: a forge says that something was pushed, and the source is looked at.

A request proves itself by the secret of its source; what it says is not read. So the worst that a stolen secret or a
replayed request can do is one more look, and those are bounded too.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api.agents.limits import LoadLimit, TokenBuckets
from api.problems import ErrorBoundary, Problem, on_http_exception, on_problem
from schemas.base import DEFAULT_NAMESPACE, is_name, is_namespace

log = logging.getLogger(__name__)


class Proof(StrEnum):
    """How a request proves itself. The values are those of ``schemas.source.ForgeType``."""

    GITHUB = "GitHub"  # X-Hub-Signature-256: sha256=<HMAC of the body>
    GITLAB = "GitLab"  # X-Gitlab-Token: the secret itself
    GITEA = "Gitea"  # X-Gitea-Signature (X-Forgejo-Signature): <HMAC of the body>


@dataclass(frozen=True, slots=True)
class Hook:
    """What a source expects of its requests."""

    proof: Proof
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class HookLimits:
    """Bounds of the hook port."""

    body: int = 25 * 1024 * 1024  # the largest that GitHub sends
    body_s: float = 10.0
    in_flight: int = 32
    requests_per_s: float = 5.0  # of all that ask for one source, proven or not, in the long run
    burst: int = 60


HookOf = Callable[[str, str], Awaitable[Hook | None]]
"""(namespace, name) of a source to what it expects; None when there is no such source, or it has no webhook."""
_NOBODY = Hook(Proof.GITHUB, "nobody has this secret")
_UNPROVEN = "no source of that name takes this request; compare the secret and the type on both sides"


def create_hooks_app(
    hook_of: HookOf,
    wake: Callable[[str, str], None],
    *,
    monotonic: Callable[[], float],
    limits: HookLimits | None = None,
) -> FastAPI:
    """``POST /hooks/<source>`` and ``POST /hooks/<namespace>/<source>``.

    ``wake`` has a source looked at; it is called on the event loop, once for each proven request. The port answers to
    any Host: a page in somebody's browser has no secret.
    """
    limits = limits or HookLimits()
    buckets = TokenBuckets(limits.requests_per_s, limits.burst, monotonic)
    app = FastAPI(
        title="Remit hooks",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        exception_handlers={Problem: on_problem, HTTPException: on_http_exception},
    )

    async def receive(request: Request, namespace: str, name: str) -> Response:
        known = is_name(name) and is_namespace(namespace)
        wait_s = buckets.take(f"{namespace}/{name}" if known else "")
        if wait_s:
            raise Problem(429, "TooManyRequests", "too many requests for this source", retry_after_s=wait_s)
        hook = await hook_of(namespace, name) if known else None
        # Whoever names no source is answered alike and as slowly, so that nobody learns which there are.
        proven = await _is_proven(request, hook or _NOBODY, limits)
        if hook is None or not proven:
            raise Problem(401, "NotProven", _UNPROVEN)
        wake(namespace, name)
        return Response(status_code=202, headers={"Cache-Control": "no-store"})

    @app.post("/hooks/{name}")
    async def of_default(request: Request, name: str) -> Response:
        return await receive(request, DEFAULT_NAMESPACE, name)

    @app.post("/hooks/{namespace}/{name}")
    async def of_namespace(request: Request, namespace: str, name: str) -> Response:
        return await receive(request, namespace, name)

    app.add_middleware(LoadLimit, most=limits.in_flight)
    app.add_middleware(ErrorBoundary)
    return app


async def _is_proven(request: Request, hook: Hook, limits: HookLimits) -> bool:
    """Whether the request was made with the secret. The body is read to its end and kept nowhere."""
    mac = hmac.new(hook.secret.encode(), digestmod=hashlib.sha256)
    try:
        async with asyncio.timeout(limits.body_s):
            async for chunk in _body(request, limits.body):
                mac.update(chunk)
    except TimeoutError as error:
        raise Problem(408, "BodyTooSlow", "the body came too slowly") from error
    except ClientDisconnect as error:
        raise Problem(400, "BodyCut", "the body ended too early") from error
    if hook.proof is Proof.GITLAB:
        given, expected = request.headers.get("x-gitlab-token", ""), hook.secret
    elif hook.proof is Proof.GITHUB:
        given, expected = request.headers.get("x-hub-signature-256", ""), f"sha256={mac.hexdigest()}"
    else:
        headers = request.headers
        given = headers.get("x-gitea-signature") or headers.get("x-forgejo-signature") or ""
        expected = mac.hexdigest()
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())


async def _body(request: Request, most: int) -> AsyncIterator[bytes]:
    size = 0
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared[:20]) > most:
        raise Problem(413, "BodyTooLarge", f"a body has at most {most} bytes")
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise Problem(413, "BodyTooLarge", f"a body has at most {most} bytes")
        yield chunk
