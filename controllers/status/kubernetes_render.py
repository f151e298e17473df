"""What an object of the store says in a cluster: its status, and for what the engine made, the object itself.

Texts are cleaned and redacted as on the status branch, and what agents hand in is left out but for name, size and
digest. Generations are those of the cluster: the store counts changes of the canonical spec, the API server counts
every write of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from controllers.runs import text
from controllers.sources.kubernetes_objects import ENGINE, MADE_BY
from controllers.status.redaction import redact
from schemas import registry
from schemas.base import API_GROUP, API_VERSION, Key
from schemas.quantities import format_time
from schemas.resource import Resource, digest
from schemas.source import SourceReason

UID: Final = f"{API_GROUP}/uid"
"""The annotation with the store's uid of what the engine made: what answers to it name."""
_LONGEST_TEXT: Final = 4_000
_VOLATILE = re.compile(r"last(?!Transition)[A-Za-z]*(?:Time|At)|burnRatePerHour|forecast[A-Za-z]*")

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Owner:
    """What an object is a part of, as the cluster knows it."""

    key: Key
    uid: str


def status(resource: Resource, generation: int, refused: str, since: datetime | None, seen: int) -> Document:
    """The status of an object. ``generation`` is what the cluster counts for the spec that is in force. ``refused``
    says why the one of generation ``seen`` is not, ``since`` since when; it is "" where nothing was refused."""
    found: Document = shown(resource.to_wire().get("status") or {})
    lag = resource.generation

    def moved(observed: int) -> int:
        """What the store has seen, counted as the cluster counts: at most that, and never the present by mistake."""
        return max(0, generation - (lag - observed)) if generation else 0

    conditions = [dict(each) for each in found.get("conditions") or () if isinstance(each, dict)]
    for condition in conditions:
        if isinstance(condition.get("observedGeneration"), int):
            condition["observedGeneration"] = moved(condition["observedGeneration"])
    if isinstance(found.get("observedGeneration"), int):
        found["observedGeneration"] = moved(found["observedGeneration"])
    if refused:
        conditions = [each for each in conditions if each.get("type") != "Accepted"]
        conditions.append(_refusal("Accepted", refused, since, seen))
    if conditions:
        found["conditions"] = conditions
    return found


def refusal(kind: str, refused: str, since: datetime | None, generation: int) -> Document:
    """The status of an object that was never in force."""
    outcome = "Succeeded" if registry.by_kind(kind).bounded else "Ready"
    return {
        "observedGeneration": generation,
        "conditions": [_refusal(type_, refused, since, generation) for type_ in ("Accepted", outcome)],
    }


def _refusal(type_: str, message: str, since: datetime | None, generation: int) -> Document:
    return {
        "type": type_,
        "status": "False",
        "reason": str(SourceReason.INVALID_SPEC),
        "message": text.clean(redact(message), _LONGEST_TEXT),
        "lastTransitionTime": format_time(since) if since is not None else None,
        "observedGeneration": generation,
    }


def made(resource: Resource, owner: Owner | None) -> Document:
    """The object itself, of one that the engine made."""
    metadata: Document = {
        "name": resource.name,
        "labels": {**resource.labels, MADE_BY: ENGINE},
        "annotations": {UID: resource.uid},
    }
    if resource.namespace:
        metadata["namespace"] = resource.namespace
    if owner is not None:
        metadata["ownerReferences"] = [
            {"apiVersion": API_VERSION, "kind": owner.key.kind, "name": owner.key.name, "uid": owner.uid,
             "controller": True}
        ]  # fmt: skip
    return {"apiVersion": API_VERSION, "kind": resource.kind, "metadata": metadata, "spec": shown(resource.spec)}


def shown(value: Any) -> Any:
    """A JSON value as others may see it."""
    if isinstance(value, Mapping):
        if "digest" in value and "text" in value:  # something that an agent handed in
            value = {key: inner for key, inner in value.items() if key != "text"}
        return {text.clean(str(key), 200): shown(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [shown(inner) for inner in value]
    if isinstance(value, str):
        return text.clean(redact(text.clean(value)), _LONGEST_TEXT)
    return value


def news(document: Document) -> str:
    """A digest that is another one when a document says something else; moments that move without news count for
    nothing."""
    return digest(_without_volatile(document))


def _without_volatile(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_volatile(inner) for key, inner in value.items() if not _VOLATILE.fullmatch(str(key))}
    if isinstance(value, list | tuple):
        return [_without_volatile(inner) for inner in value]
    return value
