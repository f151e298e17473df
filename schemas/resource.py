"""An object as the store keeps it: identity, versions, provenance, spec, status. Kinds type the spec and status."""

from __future__ import annotations

import json
import json.encoder
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from schemas.base import API_VERSION, Key
from schemas.ownership import Ownership
from schemas.quantities import format_time

RENAMED_FROM = "remit.dev/renamed-from"
RETRY_REQUESTED_AT = "remit.dev/retry-requested-at"
RECONCILE_REQUESTED_AT = "remit.dev/reconcile-requested-at"
RESET_REQUESTED_AT = "remit.dev/reset-requested-at"
RELEASE_REASON = "remit.dev/release-reason"
RELEASE_PART = "remit.dev/release-part"
SIMULATED_DURATION = "remit.dev/simulate-duration"
SIMULATED_COST = "remit.dev/simulate-cost"
SIMULATED_FAILURES = "remit.dev/simulate-failures"
KNOWN_ANNOTATIONS = (
    RENAMED_FROM,
    RETRY_REQUESTED_AT,
    RECONCILE_REQUESTED_AT,
    RESET_REQUESTED_AT,
    RELEASE_REASON,
    RELEASE_PART,
    SIMULATED_DURATION,
    SIMULATED_COST,
    SIMULATED_FAILURES,
)
"""Annotations that people write for the engine. A misspelt one would be ignored in silence, so it is refused."""


class ActorKind(StrEnum):
    """Who moves something: the letters a, h, s of the state machine."""

    AGENT = "Agent"
    HUMAN = "Human"
    SYSTEM = "System"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did something, and how the identity was proven.

    ``subject`` is ``user:<name>``, ``agent:<namespace>/<name>``, ``controller:<name>`` or ``source:<name>``.
    ``transport`` is Store (local OS user), Git (commit), Token, Kubernetes, Chat or Engine.
    """

    kind: ActorKind
    subject: str
    transport: str

    def __str__(self) -> str:
        return self.subject


SYSTEM = Actor(ActorKind.SYSTEM, "controller:engine", "Engine")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a declared object comes from. ``revision`` is ``<ref>@sha1:<sha>`` (git) or ``dir@sha256:<digest>``;
    ``signer`` is who is proven to have written it, one name to a line where it is one of several."""

    source: str
    unit: str
    revision: str
    path: str
    line: int
    blob: str
    signer: str = ""

    def to_wire(self) -> dict[str, Any]:
        """JSON form."""
        wire = {
            "source": self.source,
            "unit": self.unit,
            "revision": self.revision,
            "path": self.path,
            "line": self.line,
            "blob": self.blob,
        }
        if self.signer:
            wire["signer"] = self.signer
        return wire

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> Provenance:
        """Inverse of to_wire."""
        return cls(**wire)

    @property
    def place(self) -> str:
        """``path:line`` for messages."""
        return f"{self.path}:{self.line}"


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
# What _ENCODER makes anew for each value, made once: half of the time for a small one. It looks for no circles: such a
# value ends in a RecursionError.
_parts: Any = json.encoder.c_make_encoder and json.encoder.c_make_encoder(  # type: ignore[attr-defined]
    None, _ENCODER.default, json.encoder.encode_basestring, None, ":", ",", True, False, False
)


quote: Callable[[str], str] = json.encoder.encode_basestring
"""A text as canonical JSON has it; the C function that json.dumps uses for ``ensure_ascii=False``."""


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no spaces, UTF-8. Digests and the hash chain are taken over this form."""
    return "".join(_parts(value, 0)) if _parts is not None else _ENCODER.encode(value)


def digest(value: Any) -> str:
    """``sha256:<hex>`` of the canonical JSON of ``value``."""
    return digest_of(canonical_json(value))


def digest_of(text: str) -> str:
    """The same of a canonical JSON."""
    import hashlib  # loads OpenSSL, which commands that check files do without

    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


_NOBODY = Ownership()


@dataclass(frozen=True, slots=True)
class Resource:
    """One stored object: an intent, an act or a record.

    ``spec`` and ``status`` are canonical JSON values (see Model.to_wire); treat them as immutable. ``generation``
    starts at 1 and grows only with the canonical spec. ``resource_version`` is the store-wide sequence of the last
    write. ``unit`` is the inventory the object belongs to ("" when no source declares it). ``manager`` is who owns
    the spec: ``git/<source>``, ``cli/<user>`` or ``controller/<name>``. ``owner_uid`` is the object that this one
    is a part of and is deleted with. ``deletion_at`` is set once deletion was asked for. ``ownership`` tells who owns
    which field.
    """

    kind: str
    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: int
    spec: dict[str, Any]
    status: dict[str, Any]
    created_at: datetime
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    manager: str = ""
    unit: str = ""
    provenance: Provenance | None = None
    owner_uid: str = ""
    finalizers: tuple[str, ...] = ()
    deletion_at: datetime | None = None
    ownership: Ownership = _NOBODY

    @property
    def key(self) -> Key:
        """Identity inside the store."""
        return Key(self.kind, self.namespace, self.name)

    @property
    def state(self) -> str:
        """``status.state`` or "" (kinds without a state)."""
        value = self.status.get("state", "")
        return value if isinstance(value, str) else ""

    @property
    def spec_hash(self) -> str:
        """Digest of the canonical spec."""
        return digest(self.spec)

    def with_status(self, status: dict[str, Any], resource_version: int) -> Resource:
        """The same with another status, at another version: ``replace``, in a fifth of its time."""
        return Resource(
            self.kind, self.namespace, self.name, self.uid, self.generation, resource_version, self.spec, status,
            self.created_at, self.labels, self.annotations, self.manager, self.unit, self.provenance, self.owner_uid,
            self.finalizers, self.deletion_at, self.ownership,
        )  # fmt: skip

    def to_wire(self) -> dict[str, Any]:
        """The Kubernetes-shaped whole object, as ``-o json`` prints it."""
        metadata: dict[str, Any] = {"name": self.name}
        if self.namespace:
            metadata["namespace"] = self.namespace
        metadata |= {
            "uid": self.uid,
            "generation": self.generation,
            "resourceVersion": str(self.resource_version),
            "creationTimestamp": format_time(self.created_at),
        }
        if self.labels:
            metadata["labels"] = self.labels
        if self.annotations:
            metadata["annotations"] = self.annotations
        if self.deletion_at is not None:
            metadata["deletionTimestamp"] = format_time(self.deletion_at)
        if self.finalizers:
            metadata["finalizers"] = list(self.finalizers)
        if self.owner_uid:
            metadata["ownerReferences"] = [{"uid": self.owner_uid, "controller": True}]
        if self.manager:
            metadata["managedFields"] = self.ownership.managed_fields(self.manager)
        wire: dict[str, Any] = {
            "apiVersion": API_VERSION,
            "kind": self.kind,
            "metadata": metadata,
            "spec": self.spec,
        }
        if self.provenance is not None:
            wire["provenance"] = self.provenance.to_wire()
        wire["status"] = self.status
        extra = self.ownership.conditions(self.generation)
        if extra:
            kept = [c for c in self.status.get("conditions", ()) if c["type"] not in {e["type"] for e in extra}]
            both = sorted([*kept, *extra], key=lambda c: str(c["type"]))
            # Kept apart from status, which the reconciler of the kind writes whole.
            wire["status"] = {**self.status, "conditions": both}
        return wire


class Written(NamedTuple):
    """Canonical texts of a declaration, made once for all who write it. They hold for these very values."""

    spec: dict[str, Any]
    spec_text: str
    labels: dict[str, str]
    labels_text: str
    annotations: dict[str, str]
    annotations_text: str
    ownership: Ownership
    fields_text: str
    """Of ``ownership.fields``."""


@dataclass(frozen=True, slots=True)
class Declared:
    """A desired object as compiled from a source or given to ``apply``: canonical, defaulted, validated."""

    kind: str
    namespace: str
    name: str
    spec: dict[str, Any]
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    provenance: Provenance | None = None
    ownership: Ownership | None = None
    written: Written | None = field(default=None, repr=False, compare=False)

    @property
    def key(self) -> Key:
        """Identity inside the store."""
        return Key(self.kind, self.namespace, self.name)

    @property
    def spec_hash(self) -> str:
        """Digest of the canonical spec."""
        return digest(self.spec)

    @property
    def texts(self) -> tuple[str, str, str]:
        """The canonical JSON of spec, labels and annotations."""
        w = self.written
        if w is not None and w.spec is self.spec and w.labels is self.labels and w.annotations is self.annotations:
            return w.spec_text, w.labels_text, w.annotations_text
        return canonical_json(self.spec), canonical_json(self.labels), canonical_json(self.annotations)
