"""What every model shares: strict pydantic bases, metadata, references, labels, and the identity of an object."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, Strict, StringConstraints
from pydantic.alias_generators import to_camel

from schemas.identity import API_GROUP as API_GROUP
from schemas.identity import API_VERSION as API_VERSION
from schemas.identity import DEFAULT_NAMESPACE as DEFAULT_NAMESPACE
from schemas.identity import NAME_LENGTH as NAME_LENGTH
from schemas.identity import NAME_PATTERN as NAME_PATTERN
from schemas.identity import NAMESPACE_PATTERN as NAMESPACE_PATTERN
from schemas.identity import Key as Key
from schemas.identity import is_name as is_name
from schemas.identity import is_namespace as is_namespace

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=NAME_LENGTH)]
"""A DNS-1123 subdomain of at most 253 characters, as Kubernetes names objects."""
Namespace = Annotated[str, StringConstraints(pattern=NAMESPACE_PATTERN)]
"""A DNS-1123 label of at most 63 characters."""
PartName = Annotated[str, StringConstraints(pattern=NAMESPACE_PATTERN, max_length=60)]
"""A short name that becomes part of the names of other objects."""
LabelKey = Annotated[
    str,
    StringConstraints(
        pattern=r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
    ),
]
LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")]
Labels = dict[LabelKey, LabelValue]
Annotations = dict[LabelKey, Annotated[str, StringConstraints(max_length=262_144)]]


Int = Annotated[int, Strict()]
"""A whole number, written as one: neither "3" nor true nor 3.0 stands for it in a spec."""
Bool = Annotated[bool, Strict()]
"""true or false; neither "no" nor 0 stands for it in a spec."""
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
"""A number with or without decimals, never a text."""

MAX_SECONDS = 315_360_000
"""Ten years: the upper bound of fields that count seconds."""

SUBJECT_PATTERN = r"^(user|agent|service):[A-Za-z0-9][A-Za-z0-9._@+|/-]{0,252}$"
Subject = Annotated[str, StringConstraints(pattern=SUBJECT_PATTERN)]
"""Who, as in an audit record: ``user:alice``, ``agent:default/auditor``, ``service:ci``. ASCII only, so that two
subjects that look alike are alike."""

LINE_PATTERN = r"^[^\x00-\x1f\x7f]*$"
Line = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True, pattern=LINE_PATTERN)]
"""A title or a name for people: one line of at most 200 characters."""


def require_unique(values: Iterable[object], what: str) -> None:
    """Raise ValueError that names the values which stand more than once (at most three of them)."""
    twice = sorted(str(value)[:80] for value, count in Counter(values).items() if count > 1)
    if twice:
        raise ValueError(f"{what} must be unique; more than one: {', '.join(twice[:3])}")


_JSON_DEPTH = 64
_INT64 = range(-(2**63), 2**63)


def _is_leaf(value: object) -> bool:
    """Whether there is nothing in a value that JSON cannot carry: for most, without looking further."""
    kind = value.__class__
    return kind is str or kind is bool or value is None or (kind is int and value in _INT64)


def _plain_json(value: dict[str, Any]) -> dict[str, Any]:
    """Refuse what JSON cannot carry, so that the canonical form, its digest and its copies in a database agree."""
    stack: list[tuple[str, int, object]] = [("", 1, value)]
    while stack:
        where, depth, item = stack.pop()
        problem = ""
        if isinstance(item, dict | list | tuple):
            if depth > _JSON_DEPTH:
                problem = f"nested deeper than {_JSON_DEPTH} levels"
            elif isinstance(item, dict):
                for key, inner in item.items():
                    if not isinstance(key, str):
                        problem = "the keys of a mapping are texts"
                        break
                    if not _is_leaf(inner):
                        stack.append((f"{where}.{key}"[:80].lstrip("."), depth + 1, inner))
            else:
                stack.extend((where, depth + 1, inner) for inner in item)
        elif isinstance(item, float):
            if not math.isfinite(item):
                problem = "neither infinity nor NaN can be written as JSON"
        elif isinstance(item, int):
            if not -(2**63) <= item < 2**63:
                problem = "a whole number has at most 64 bits"
        elif item is not None and not isinstance(item, str):
            problem = "write a text, number, true, false, null, list or mapping"
        if problem:
            raise ValueError(f"{where}: {problem}" if where else problem)
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(_plain_json)]
"""Free JSON: a mapping of text keys to whatever JSON can carry, nulls included."""


_building = threading.RLock()
_put = object.__setattr__  # models are frozen


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
        # Most processes are commands that need few of the many models: each is built when it is first used.
        defer_build=True,
    )

    @classmethod
    def model_rebuild(
        cls, *, force: bool = False, raise_errors: bool = True, _parent_namespace_depth: int = 2,
        _types_namespace: Mapping[str, Any] | None = None,
    ) -> bool | None:  # fmt: skip
        """Build the model, which its first use does. One thread at a time: two that build one model at once can
        leave a third one with none."""
        with _building:
            if cls.__pydantic_complete__ and not force:
                return None
            return super().model_rebuild(
                force=force, raise_errors=raise_errors, _parent_namespace_depth=_parent_namespace_depth + 1,
                _types_namespace=_types_namespace,
            )  # fmt: skip

    def altered(self, **fields: Any) -> Self:
        """``model_copy(update=fields)`` in a third of its time. Nothing is validated."""
        made = self.__class__.__new__(self.__class__)
        _put(made, "__dict__", {**self.__dict__, **fields})
        _put(made, "__pydantic_fields_set__", self.__pydantic_fields_set__ | fields.keys())
        _put(made, "__pydantic_extra__", None)
        _put(made, "__pydantic_private__", None)
        return made

    def to_wire(self) -> dict[str, Any]:
        """The canonical JSON form: camelCase keys, every default present, None and absent fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class StatusModel(Model):
    """Base of every status. Unknown fields are ignored: an older engine may read a newer engine's status."""

    model_config = ConfigDict(extra="ignore")


def exactly_one_field() -> ConfigDict:
    """Model configuration that tells editors what a validator of the model checks: one field, and only one, is set."""
    return ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})


def block_by_type(blocks: Iterable[tuple[str, str | None]]) -> ConfigDict:
    """The same for models whose ``type`` asks for a block: ``blocks`` pairs each type with its field, or None."""
    rules: list[JsonValue] = [
        {"if": {"properties": {"type": {"const": type_}}, "required": ["type"]}, "then": {"required": [block]}}
        for type_, block in blocks
        if block is not None
    ]
    return ConfigDict(json_schema_extra={"allOf": rules})


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
