"""AdmissionReview: what an API server of Kubernetes asks before it keeps an object, and what it is answered.

Only the fields that we read are named; the rest of a review is left alone.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field, JsonValue

from schemas.base import StatusModel

REVIEW_VERSION = "admission.k8s.io/v1"


class Operation(StrEnum):
    """What is about to happen to the object."""

    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    CONNECT = "CONNECT"


class UserInfo(StatusModel):
    """Who asks, as the API server authenticated them."""

    username: str = Field("", max_length=1000)
    uid: str = Field("", max_length=1000)
    groups: tuple[str, ...] = Field(())


class AdmissionRequest(StatusModel):
    """One question. ``object`` is None for a deletion, ``oldObject`` for a creation."""

    uid: str = Field(min_length=1, max_length=200)
    operation: Operation
    name: str = Field("", max_length=300)
    namespace: str = Field("", max_length=300)
    sub_resource: str = Field("", max_length=100)
    user_info: UserInfo
    object: dict[str, JsonValue] | None = Field(None)
    old_object: dict[str, JsonValue] | None = Field(None)
    dry_run: bool = Field(False)


class AdmissionReview(StatusModel):
    """The message both ways; ``request`` on the way in."""

    api_version: str = Field(pattern=r"^admission\.k8s\.io/v1$")
    kind: str = Field(pattern=r"^AdmissionReview$")
    request: AdmissionRequest


def answered(uid: str, *, allowed: bool, message: str = "", code: int = 403, reason: str = "") -> dict[str, Any]:
    """The review that answers the request ``uid``. ``message`` is for whoever asked; with ``code`` an HTTP status."""
    response: dict[str, Any] = {"uid": uid, "allowed": allowed}
    if not allowed:
        response["status"] = {"status": "Failure", "message": message, "reason": reason, "code": code}
    return {"apiVersion": REVIEW_VERSION, "kind": "AdmissionReview", "response": response}
