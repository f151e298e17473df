"""What a kind, or a field of it, is: the answer behind ``remit explain`` and the reference pages."""

from __future__ import annotations

import difflib
import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace

from schemas import registry
from schemas.base import API_VERSION, SpecMeta
from schemas.conditions import CommonReason
from schemas.enum_docs import member_docs
from schemas.errors import UnknownName
from schemas.jsonschema import SCHEMA_VALUES, Schema, model_schema
from schemas.kind import KindInfo, ObjectClass
from schemas.quantities import SCHEMA_TYPE

_WIDTH = 100
_INDEX = re.compile(r"\[[^\]]*\]")


@dataclass(frozen=True, slots=True)
class Value:
    """One word that a field may hold, and what it means ("" where the word says it)."""

    name: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class FieldDoc:
    """One field. ``type`` is written as kubectl writes it: string, integer, boolean, number, duration, money, time,
    date, cron, time zone, enum, Object, any, []<type>, map[string]<type>. ``default`` is JSON text, None without one;
    ``bounds`` are words such as "1..100" or "at most 200 characters"."""

    name: str
    path: str
    type: str
    description: str
    required: bool = False
    default: str | None = None
    bounds: tuple[str, ...] = ()
    values: tuple[Value, ...] = ()
    fields: tuple[FieldDoc, ...] = ()

    def walk(self) -> Iterator[tuple[int, FieldDoc]]:
        """Every field below this one with its depth (0 for a direct child), in order, parents first."""
        for child in self.fields:
            yield 0, child
            for depth, grandchild in child.walk():
                yield depth + 1, grandchild


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer. ``field`` is what was asked for: the whole object when only a kind was named. ``condition_types``
    and ``reasons`` are given for the object and for its conditions, else empty."""

    info: KindInfo
    field: FieldDoc
    condition_types: tuple[str, ...] = ()
    reasons: tuple[Value, ...] = ()


def explain(path: str) -> Explanation:
    """What ``path`` is: a kind by any of its names, then fields, as in ``mission.spec.retry`` or
    ``mi.status.conditions``. List indexes such as ``[0]`` are read over. Raises UnknownName that lists the names that
    would have been right at that point, with the nearest one as a suggestion."""
    first, *rest = [part for part in _INDEX.sub("", path.strip()).split(".") if part] or [""]
    info = registry.by_name(first)
    field = object_doc(info)
    for part in rest:
        field = _child(info, field, part)
    about_conditions = field.path in ("", "status") or field.path.startswith("status.conditions")
    return Explanation(
        info,
        field,
        info.condition_types if about_conditions else (),
        reasons(info) if about_conditions else (),
    )


def object_doc(info: KindInfo) -> FieldDoc:
    """The whole object of a kind as one field without a name; below it apiVersion, kind, metadata, spec, status."""
    declared = info.object_class is not ObjectClass.RECORD
    spec = replace(_field("spec", "spec", model_schema(info.spec), required=True), description=info.description)
    status = _field("status", "status", model_schema(info.status), required=False)
    fields = (
        FieldDoc("apiVersion", "apiVersion", "string", f"Always {API_VERSION}.", required=declared),
        FieldDoc("kind", "kind", "string", f"Always {info.kind}.", required=declared),
        _metadata(info, declared),
        spec,
        replace(status, description="What is true of it; written by the engine."),
    )
    return FieldDoc("", "", "Object", info.description, fields=fields)


def reasons(info: KindInfo) -> tuple[Value, ...]:
    """Every reason that a condition of the kind may carry: its own first, then those that any kind may have."""
    own = member_docs(info.reasons)
    common = {value: text for value, text in member_docs(CommonReason).items() if value not in own}
    if not info.condition_types:
        return ()
    return tuple(Value(value, text) for value, text in (own | common).items())


def render(explanation: Explanation, *, recursive: bool = False) -> str:
    """The answer as text for a terminal, without a final newline. ``recursive`` shows every field below, as a tree of
    names and types without descriptions."""
    info, field = explanation.info, explanation.field
    lines = [f"KIND:       {info.kind}", f"VERSION:    {API_VERSION}", ""]
    if field.path:
        lines += [f"FIELD: {field.path} <{field.type}>{_remarks(field)}", ""]
    lines += ["DESCRIPTION:", *_wrapped(field.description or "It has no description.", 4), ""]
    if field.values:
        lines += ["VALUES:", *_value_lines(field.values), ""]
    if field.fields:
        lines.append("FIELDS:")
        for depth, child in field.walk() if recursive else ((0, child) for child in field.fields):
            indent = "  " * (depth + 1)
            lines.append(f"{indent}{child.name}\t<{child.type}>{_remarks(child)}")
            if not recursive:
                lines += _wrapped(child.description, 4)
                if child.values:
                    lines += _wrapped("one of " + ", ".join(value.name for value in child.values), 4)
        lines.append("")
    if explanation.condition_types and not recursive:
        lines += ["CONDITIONS:", *_wrapped(", ".join(explanation.condition_types), 4), ""]
        lines += ["REASONS:", *_value_lines(explanation.reasons), ""]
    return "\n".join(lines).rstrip("\n")


def _child(info: KindInfo, field: FieldDoc, name: str) -> FieldDoc:
    here = f"{info.singular}.{field.path}".rstrip(".")
    if not field.fields:
        what = "free JSON, nothing below it is described" if field.type == "map[string]any" else f"a {field.type}"
        raise UnknownName(f"{here} has no field {name[:80]!r}: it is {what}")
    for child in field.fields:
        if child.name == name:
            return child
    known = [child.name for child in field.fields]
    near = difflib.get_close_matches(name[:80].lower(), [text.lower() for text in known], n=1)
    hint = next((f": did you mean {text}?" for text in known if near and text.lower() == near[0]), ".")
    raise UnknownName(f"{here} has no field {name[:80]!r}{hint} There are: {', '.join(known)}", known=known)


def _metadata(info: KindInfo, declared: bool) -> FieldDoc:
    meta = _field("metadata", "metadata", model_schema(SpecMeta), required=declared)
    own = [
        replace(child, bounds=(f"at most {info.max_name} characters",)) if child.name == "name" else child
        for child in meta.fields
        if info.namespaced or child.name != "namespace"
    ]
    engine = [
        FieldDoc(name, f"metadata.{name}", type_, f"{text} Written by the engine.")
        for name, type_, text in (
            ("uid", "string", "Identity for good: it stays when the object is renamed."),
            ("generation", "integer", "Grows with every change of the spec."),
            ("resourceVersion", "string", "Grows with every write; the token to watch from."),
            ("creationTimestamp", "time", "When it was first declared or made."),
            ("deletionTimestamp", "time", "Since when it is being deleted."),
            ("finalizers", "[]string", "What has to be done before it is gone."),
            ("ownerReferences", "[]Object", "The object that it is a part of and is deleted with."),
            ("managedFields", "[]Object", "Who owns the spec."),
        )
    ]
    return replace(meta, description="Who it is.", fields=(*own, *engine))


def _field(name: str, path: str, schema: Schema, *, required: bool) -> FieldDoc:
    inner = schema
    while "items" in inner:
        inner = inner["items"]
    children: tuple[FieldDoc, ...] = ()
    shape = _map_value(inner) or inner
    if "properties" in shape:
        needed = shape.get("required", ())
        children = tuple(
            _field(key, f"{path}.{key}", value, required=key in needed) for key, value in shape["properties"].items()
        )
    words = shape.get("enum", ())
    meanings = shape.get(SCHEMA_VALUES) or [""] * len(words)
    default = json.dumps(schema["default"], ensure_ascii=False) if "default" in schema else None
    return FieldDoc(
        name,
        path,
        _type(schema),
        schema.get("description", ""),
        required,
        default,
        tuple(_bounds(schema)),
        tuple(Value(str(word), text) for word, text in zip(words, meanings, strict=True)),
        children,
    )


def _map_value(schema: Schema) -> Schema | None:
    """The schema of a map's values; None when it is no map with one schema for all values."""
    values = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")]
    return next((value for value in values if isinstance(value, dict)), None)


def _type(schema: Schema) -> str:
    if SCHEMA_TYPE in schema:
        return str(schema[SCHEMA_TYPE])
    if "enum" in schema:
        return "enum"
    if "items" in schema:
        return f"[]{_type(schema['items'])}"
    if "properties" in schema:
        return "Object"
    if schema.get("type") == "object":
        value = _map_value(schema)
        return f"map[string]{_type(value) if value else 'any'}"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(choice) for choice in schema["anyOf"]))
    return str(schema.get("type", "any"))


def _bounds(schema: Schema) -> Iterator[str]:
    if SCHEMA_TYPE in schema:
        return
    low, high = schema.get("minimum"), schema.get("maximum")
    above = schema.get("exclusiveMinimum")
    if low is not None and high is not None:
        yield f"{low}..{high}"
    elif low is not None:
        yield f"at least {low}"
    elif above is not None:
        yield f"above {above}" + (f", at most {high}" if high is not None else "")
    if schema.get("minItems"):
        yield f"at least {schema['minItems']}"
    if "maxLength" in schema and "enum" not in schema:
        yield f"at most {schema['maxLength']} characters"


def _remarks(field: FieldDoc) -> str:
    default = field.default
    notes = [
        *(("required",) if field.required else ()),
        *((f"default {default}",) if default is not None and default not in ('""', "[]", "{}") else ()),
        *field.bounds,
    ]
    return f" ({'; '.join(notes)})" if notes else ""


def _wrapped(text: str, indent: int) -> list[str]:
    blank = " " * indent
    return textwrap.wrap(text, _WIDTH, initial_indent=blank, subsequent_indent=blank, break_on_hyphens=False)


def _value_lines(values: tuple[Value, ...]) -> list[str]:
    width = min(30, max((len(value.name) for value in values), default=0))
    return [f"    {value.name:<{width}}  {value.description}".rstrip() for value in values]
