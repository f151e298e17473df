"""One object as one file of the status branch: where it stands and what it says.

Equal status gives equal bytes: moments that move without news (a heartbeat, the last poll) are left out, keys are
sorted. What agents hand in is left out as well, but for its name, size and digest: a repository is read by more people
than the store, and forgets nothing.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

import yaml

from controllers.runs import text
from controllers.status.redaction import redact
from schemas import registry
from schemas.base import API_VERSION, Key, is_name, is_namespace
from schemas.resource import Resource

CLUSTER: Final = "_cluster"
"""The folder of objects without a namespace; no namespace can have that name."""
OWN_CONDITIONS: Final = ("StatusWritten", "ForgeReported")
"""Conditions that speak of the writing itself: a file that held them would change whenever it was written."""
_LONGEST_TEXT: Final = 2_000
_LONGEST_NAME: Final = 255
_VOLATILE = re.compile(r"last(?!Transition)[A-Za-z]*(?:Time|At)|lastHandled[A-Za-z]*|burnRatePerHour|forecast[A-Za-z]*")
_DUMPER: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def path_of(key: Key) -> str:
    """``<namespace>/<kind>/<name>.yaml``, of lower-case letters, digits, ``-`` and ``.`` only.

    Raises ValueError for what no stored object is called: nothing of a name may lead elsewhere.
    """
    if not is_name(key.name) or (key.namespace and not is_namespace(key.namespace)):
        raise ValueError(f"{key.kind} {key.namespace!r} {key.name!r} has no name that a file can have")
    kind = registry.by_kind(key.kind).singular
    name = f"{key.name}.yaml"
    if len(name) > _LONGEST_NAME:
        # Longer than file systems take. "~" stands in no name, so no other object has this path.
        name = f"{key.name[:200]}~{hashlib.sha256(key.name.encode()).hexdigest()[:16]}.yaml"
    return f"{key.namespace or CLUSTER}/{kind}/{name}"


def render(resource: Resource) -> bytes:
    """The file of an object."""
    metadata: dict[str, Any] = {"name": resource.name}
    if resource.namespace:
        metadata["namespace"] = resource.namespace
    metadata |= {"uid": resource.uid, "generation": resource.generation}
    if resource.deletion_at is not None:
        metadata["deleting"] = True
    document = {"apiVersion": API_VERSION, "kind": resource.kind, "metadata": metadata}
    head = _dump(document, sort=False)
    return head + _dump({"status": _shown(resource.status)}, sort=True)


def summary(resource: Resource) -> str:
    """Where an object stands, in a word or two for a commit message."""
    if resource.deletion_at is not None:
        return "Deleting"
    if resource.state:
        return resource.state
    conditions = resource.status.get("conditions") or ()
    for wanted in ("Ready", "Succeeded"):
        for condition in conditions:
            if isinstance(condition, dict) and condition.get("type") == wanted:
                return text.line(f"{wanted}={condition.get('status')} {condition.get('reason')}", 100)
    return ""


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        if "digest" in value and "text" in value:  # something that an agent handed in
            value = {key: inner for key, inner in value.items() if key != "text"}
        return {
            text.clean(str(key), 200): _conditions(inner) if key == "conditions" else _shown(inner)
            for key, inner in value.items()
            if not _VOLATILE.fullmatch(str(key))
        }
    if isinstance(value, list | tuple):
        return [_shown(inner) for inner in value]
    if isinstance(value, str):
        return text.clean(redact(text.clean(value)), _LONGEST_TEXT)
    return value


def _conditions(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return _shown(value)
    return [_shown(c) for c in value if not (isinstance(c, dict) and c.get("type") in OWN_CONDITIONS)]


def _dump(value: dict[str, Any], *, sort: bool) -> bytes:
    dumped: str = yaml.dump(value, Dumper=_DUMPER, sort_keys=sort, allow_unicode=True, width=120)
    return dumped.encode("utf-8")
