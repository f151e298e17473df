"""What every model shares: strict pydantic bases, metadata, references, labels, and the identity of an object."""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

API_GROUP = "remit.dev"
API_VERSION = "remit.dev/v1alpha1"
DEFAULT_NAMESPACE = "default"

NAME_PATTERN = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
NAMESPACE_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
_NAME = re.compile(NAME_PATTERN)

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""A DNS-1123 subdomain of at most 253 characters, as Kubernetes names objects."""
Namespace = Annotated[str, StringConstraints(pattern=NAMESPACE_PATTERN)]
"""A DNS-1123 label of at most 63 characters."""
LabelKey = Annotated[
    str,
    StringConstraints(
        pattern=r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
    ),
]
LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")]
Labels = dict[LabelKey, LabelValue]
Annotations = dict[LabelKey, Annotated[str, StringConstraints(max_length=262_144)]]


def is_name(text: str) -> bool:
    """Whether ``text`` can name an object. Anything else never reaches git arguments, a shell or a page as a name."""
    return _NAME.fullmatch(text) is not None


class Model(BaseModel):
    """Base of every spec, status and message: camelCase on the wire, unknown fields refused, frozen."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_enum_values=False,
        validate_default=True,
        ser_json_timedelta="iso8601",
    )

    def to_wire(self) -> dict[str, Any]:
        """The canonical JSON form: camelCase keys, every default present, None and absent fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class StatusModel(Model):
    """Base of every status. Unknown fields are ignored: an older engine may read a newer engine's status."""

    model_config = ConfigDict(extra="ignore")


class Key(NamedTuple):
    """Identity of an object inside one store. ``namespace`` is "" for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}" if self.namespace else f"{self.kind}/{self.name}"

    @property
    def short(self) -> str:
        """As a person types it: ``mission/audit-links``; the namespace only when it is not the default one."""
        place = "" if self.namespace in ("", DEFAULT_NAMESPACE) else f" -n {self.namespace}"
        return f"{self.kind.lower()}/{self.name}{place}"


class ObjectRef(Model):
    """Names another object; the kind follows from the field. ``namespace`` defaults to that of the referrer."""

    name: Name = Field(description="Name of the object.")
    namespace: Namespace | None = Field(None, description="Its namespace; that of the referring object when absent.")

    def key(self, kind: str, namespace: str) -> Key:
        """The full identity, seen from an object in ``namespace``."""
        return Key(kind, self.namespace or namespace, self.name)


class LabelSelector(Model):
    """Picks objects by label: every pair of ``matchLabels`` must be present. Empty picks all."""

    match_labels: Labels = Field(default_factory=dict, description="Label pairs that must all be present.")

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether an object with ``labels`` is picked."""
        return all(labels.get(k) == v for k, v in self.match_labels.items())


class SpecMeta(Model):
    """The metadata that a person writes. What the engine adds is in ``resource.Resource``."""

    name: Name = Field(description="Unique within kind and namespace.")
    namespace: Namespace | None = Field(None, description='Tenant the object belongs to; "default" when absent.')
    labels: Labels = Field(default_factory=dict, description="Label pairs for selectors.")
    annotations: Annotations = Field(default_factory=dict, description="Free text for tools and request tokens.")
