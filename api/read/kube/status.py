"""Errors as Kubernetes clients read them: a ``Status`` object."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from api.problems import Problem
from api.read.answers import json_bytes


class StatusProblem(Problem):
    """A problem whose answer is a Status. ``reason`` is one of the words of Kubernetes."""

    def __init__(self, status: int, reason: str, detail: str, **details: Any) -> None:
        super().__init__(status, reason, detail)
        self._details = details

    def to_wire(self) -> dict[str, Any]:
        """The Status object."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.detail,
            "reason": self.code,
            "details": self._details,
            "code": self.status,
        }

    def response(self) -> Response:
        """It as an answer."""
        return Response(json_bytes(self.to_wire()), self.status, self.headers, "application/json")


def not_found(plural: str, name: str) -> StatusProblem:
    """There is no such object."""
    text = f'{plural}.remit.dev "{name}" not found'
    return StatusProblem(404, "NotFound", text, name=name, group="remit.dev", kind=plural)


def expired(what: str) -> StatusProblem:
    """A version or place that cannot be continued from: list anew."""
    return StatusProblem(410, "Expired", f"{what} is too old, or of another store: list again")


def bad_request(text: str) -> StatusProblem:
    """The question cannot be understood."""
    return StatusProblem(400, "BadRequest", text)
