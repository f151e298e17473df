"""The admission port: an API server of Kubernetes asks before it keeps an object of ours.

It is served by TLS, and takes reviews at a path that only the API server was told. Whatever goes wrong here reads as
no: the API server keeps nothing then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from api.crowd import LoadLimit
from api.problems import ErrorBoundary, Problem, on_http_exception, on_problem
from schemas.admission import AdmissionRequest, AdmissionReview

log = logging.getLogger(__name__)

MOST_BODY = 7 * 1024 * 1024
"""An object and the one before it, of 3 MiB each at most, and what stands around them."""
BODY_S = 10.0
MOST_REQUESTS = 64

Ruling = Callable[[AdmissionRequest], Awaitable[dict[str, Any]]]
"""The review that answers a request."""


def create_admission_app(rule: Ruling, knows: Callable[[str], bool]) -> FastAPI:
    """``POST /admit/TOKEN`` takes and answers an AdmissionReview v1, if ``knows(TOKEN)``; ``GET /healthz`` answers
    200."""
    app = FastAPI(
        title="Remit admission",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        exception_handlers={Problem: on_problem, HTTPException: on_http_exception},
    )

    @app.get("/healthz")
    async def healthz() -> Response:
        return Response("ok", media_type="text/plain")

    @app.post("/admit/{token}")
    async def admit(request: Request, token: str) -> Response:
        if not knows(token):
            raise Problem(404, "NotFound", "reviews are taken at the path of the ValidatingWebhookConfiguration only")
        try:
            review = AdmissionReview.model_validate_json(await _body(request))
        except ValidationError as error:
            raise Problem(400, "NoReview", "the body is no AdmissionReview of admission.k8s.io/v1") from error
        return JSONResponse(await rule(review.request), headers={"Cache-Control": "no-store"})

    app.add_middleware(LoadLimit, most=MOST_REQUESTS)
    app.add_middleware(ErrorBoundary)
    return app


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BODY:
                    raise Problem(413, "BodyTooLarge", f"a body has at most {MOST_BODY} bytes")
    except TimeoutError as error:
        raise Problem(408, "BodyTooSlow", "the body came too slowly") from error
    except ClientDisconnect as error:
        raise Problem(400, "BodyCut", "the body ended too early") from error
    return bytes(body)
