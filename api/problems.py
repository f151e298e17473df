"""The one shape of an error answer: ``application/problem+json`` (RFC 9457).

Beside the RFC's ``type``, ``title``, ``status`` and ``detail`` there is always ``code``, a CamelCase word to program
against, and for a body that is not accepted ``errors``, a list of ``{field, message}``. Nothing of our insides and no
word of the request but the names of its fields ever shows in one.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schemas.errors import Conflict, NotFound, Refused, RemitError, StoreError, StoreUnavailable

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
STORE_RETRY_S = 2
_MOST_ERRORS = 20
_MOST_NAME = 100

PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "description": "Always about:blank; code says more."},
        "title": {"type": "string", "description": "The phrase of the status."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, and what to do."},
        "code": {"type": "string", "description": "CamelCase word for the case."},
        "errors": {
            "type": "array",
            "description": "What is wrong with the body.",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


class Problem(Exception):
    """An answer other than the one that was asked for. ``retry_after_s`` becomes a Retry-After header."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[tuple[str, str]] = (),
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))

    def response(self) -> Response:
        """It as an answer."""
        wire: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.errors:
            wire["errors"] = [{"field": field, "message": message} for field, message in self.errors]
        headers = {"Cache-Control": "no-store", **self.headers}
        # ASCII only: whatever a field was named, the answer can be encoded.
        return Response(json.dumps(wire).encode("ascii"), self.status, headers, MEDIA_TYPE)


def of_error(error: RemitError, codes: Mapping[str, int] | None = None) -> Problem:
    """The problem that says what ``error`` says. ``codes`` gives the status for reasons of Refused; others are 409."""
    if isinstance(error, Refused):
        return Problem((codes or {}).get(error.reason, 409), error.reason, str(error))
    if isinstance(error, NotFound):
        return Problem(404, "NotFound", str(error))
    if isinstance(error, Conflict):
        return Problem(409, "Conflict", str(error))
    if isinstance(error, StoreUnavailable):
        log.warning("answered 503: %s", error)
        text = "the store does not answer at the moment; the same request may be sent again"
        return Problem(503, "StoreUnavailable", text, retry_after_s=STORE_RETRY_S)
    if isinstance(error, StoreError):
        log.error("answered 503", exc_info=error)
        return Problem(503, "StoreError", "the store refused; the log has the reason", retry_after_s=STORE_RETRY_S)
    log.error("answered 500", exc_info=error)
    return internal_error()


def internal_error() -> Problem:
    """Something that we did not foresee."""
    return Problem(500, "InternalError", "a fault in Remit itself; its log has more")


def of_validation(error: ValidationError) -> Problem:
    """What is wrong with a body, each field by its path on the wire."""
    errors = []
    for found in error.errors(include_url=False, include_context=False, include_input=False)[:_MOST_ERRORS]:
        field = ".".join(str(part)[:_MOST_NAME] for part in found["loc"])
        errors.append((field, _words(found["type"], found["msg"])))
    if len(errors) == 1 and not errors[0][0]:
        return Problem(422, "Invalid", f"the body is not accepted: {errors[0][1]}", errors=errors)
    fields = ", ".join(sorted({field or "(body)" for field, _ in errors}))
    return Problem(422, "Invalid", f"the body is not accepted; see errors: {fields}", errors=errors)


def _words(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "unknown field"
    if kind == "missing":
        return "this field is required"
    if kind == "json_invalid":
        return message
    text = message.removeprefix("Value error, ")
    return text[:1].lower() + text[1:]


async def on_problem(_: Request, error: Exception) -> Response:
    """Exception handler for Problem."""
    assert isinstance(error, Problem)
    return error.response()


async def on_http_exception(_: Request, error: Exception) -> Response:
    """Exception handler for what the framework refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    code = "".join(word.capitalize() for word in phrase.replace("-", " ").split())
    return Problem(error.status_code, code, phrase, headers=error.headers).response()


class ErrorBoundary:
    """Middleware: whatever goes wrong below becomes a problem, and never a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            log.exception("a request failed: %s %r", scope["method"], scope["path"][:200])
            if started:
                raise
            await internal_error().response()(scope, receive, send)
