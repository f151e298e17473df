"""Whether the engine has handled everything that was asked of an object; until then its status tells of the past."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.base import Key
from schemas.resource import RECONCILE_REQUESTED_AT, RESET_REQUESTED_AT, RETRY_REQUESTED_AT

if TYPE_CHECKING:
    from schemas.resource import Resource
    from store.contract import Snapshot

_TOKENS = {
    RETRY_REQUESTED_AT: "lastHandledRetry",
    RECONCILE_REQUESTED_AT: "lastHandledReconcile",
    RESET_REQUESTED_AT: "lastHandledReset",
}
_VERDICTS = {"Review": ("Approved", "Denied", "ChangesRequested", "Expired"), "Blocked": ("Approved", "Denied")}
"""Verdicts on an open request that move a mission out of the state."""


def unhandled(snapshot: Snapshot, resource: Resource) -> str:
    """What the engine has yet to handle, for people; "" when the status is the answer to everything asked so far."""
    observed = resource.status.get("observedGeneration")
    if observed is not None and observed < resource.generation:
        return "a change of its spec waits to be handled"
    for annotation, field in _TOKENS.items():
        token = resource.annotations.get(annotation)
        if token and resource.status.get(field) != token and _handles(resource, field):
            return "a request waits to be handled"
    return _answer(snapshot, resource)


def _handles(resource: Resource, field: str) -> bool:
    from schemas import registry

    fields = registry.by_kind(resource.kind).status.model_fields.values()
    return any(f.alias == field for f in fields)


def _answer(snapshot: Snapshot, resource: Resource) -> str:
    name = resource.status.get("reviewRequest")
    if resource.kind == "ApprovalRequest":
        request: Resource | None = resource
    else:
        request = snapshot.get(Key("ApprovalRequest", resource.namespace, name)) if name else None
    if request is None:
        return ""
    if request is not resource and request.state in _VERDICTS.get(resource.state, ()):
        return "an answer waits to be handled"
    for decision in snapshot.objects("ApprovalDecision", namespace=request.namespace):
        if decision.spec["requestRef"].get("uid") != request.uid:
            continue
        judged = (c["status"] for c in decision.status.get("conditions", ()) if c["type"] == "Succeeded")
        if next(judged, "Unknown") == "Unknown":
            return "an answer waits to be handled"
    return ""
