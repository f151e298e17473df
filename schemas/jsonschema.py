"""JSON Schema of the kinds: for editors (draft-07, as yaml-language-server reads it) and as the base of ``explain``.

A model's schema is flat: every reference is put in its place, so that an editor shows the description of the field and
not that of its type. Nulls are left out: a field that may be left out is left out, not null.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from schemas import registry
from schemas.base import API_VERSION, NAMESPACE_PATTERN, SpecMeta
from schemas.enum_docs import member_docs
from schemas.kind import KindInfo
from schemas.quantities import SCHEMA_TYPE

DRAFT = "http://json-schema.org/draft-07/schema#"
SCHEMA_VALUES = "x-remit-values"
"""Keyword beside ``enum``: what each of its values means, in the same order."""

Schema = dict[str, Any]


class _Generator(GenerateJsonSchema):
    """Adds what the members of an enum mean."""

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        result = super().enum_schema(schema)
        docs = member_docs(schema["cls"])
        result[SCHEMA_VALUES] = [docs.get(value, "") for value in result.get("enum", [result.get("const")])]
        return result


@functools.cache
def model_schema(model: type[BaseModel]) -> Schema:
    """The flat schema of a model, with our own ``x-remit-`` keywords. Treat it as immutable: it is shared."""
    raw = model.model_json_schema(by_alias=True, schema_generator=_Generator, mode="validation")
    definitions: Schema = raw.pop("$defs", {})
    flat: Schema = _flatten(raw, definitions)
    return flat


def kind_schema(info: KindInfo) -> Schema:
    """The schema of a file that declares one object of a kind."""
    return {"$schema": DRAFT, **_document(info)}


def combined_schema(kinds: Iterable[str] = registry.DECLARABLE) -> Schema:
    """The schema of a file whose documents are of any of ``kinds``: ``kind`` selects the rest."""
    infos = [registry.by_kind(kind) for kind in kinds]
    return {
        "$schema": DRAFT,
        "title": "Remit",
        "description": "Any object that can be declared.",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": API_VERSION, "description": "Version of the schema."},
            "kind": {
                "type": "string",
                "enum": [info.kind for info in infos],
                "description": "What the document declares.",
                "enumDescriptions": [info.description for info in infos],
            },
        },
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": info.kind}}, "required": ["kind"]},
                "then": {"$ref": f"#/definitions/{info.kind}"},
            }
            for info in infos
        ],
        "definitions": {info.kind: _document(info) for info in infos},
    }


def _document(info: KindInfo) -> Schema:
    meta = _for_editors(model_schema(SpecMeta))
    properties = meta["properties"]
    if not info.namespaced:
        del properties["namespace"]
        properties["name"]["pattern"] = NAMESPACE_PATTERN
    if "maxLength" in properties["name"]:
        properties["name"]["maxLength"] = info.max_name
    meta["description"] = "Name, namespace, labels and annotations."
    return {
        "title": info.kind,
        "description": info.description,
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
        "properties": {
            "apiVersion": {"const": API_VERSION, "description": "Version of the schema."},
            "kind": {"const": info.kind, "description": info.description},
            "metadata": meta,
            "spec": _for_editors(model_schema(info.spec)),
        },
    }


def _flatten(node: Any, definitions: Schema) -> Any:
    """``node`` with every reference replaced, nulls and titles taken out. Our models never contain themselves."""
    if isinstance(node, list):
        return [_flatten(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[-1]]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    choices = node.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        rest = [choice for choice in choices if choice != {"type": "null"}]
        others = {key: value for key, value in node.items() if key != "anyOf"}
        if others.get("default", ...) is None:
            del others["default"]
        if len(rest) > 1:
            node = {"anyOf": rest, **others}
        else:
            # The description beside the union speaks of the field, the one inside of its type.
            return _flatten({**_resolved(rest[0], definitions), **others}, definitions)
    flat: Schema = {}
    for key, value in node.items():
        if key == "title":
            continue
        if key in ("properties", "patternProperties"):
            flat[key] = {name: _flatten(inner, definitions) for name, inner in value.items()}
        elif key in ("default", "examples", "enum", "const", "required", SCHEMA_VALUES):
            flat[key] = value
        else:
            flat[key] = _flatten(value, definitions)
    if "patternProperties" in flat:
        flat["additionalProperties"] = False
    if isinstance(flat.get("description"), str):
        flat["description"] = " ".join(flat["description"].split())
    return flat


def _resolved(node: Schema, definitions: Schema) -> Schema:
    if "$ref" not in node:
        return node
    target = definitions[node["$ref"].rsplit("/", 1)[-1]]
    return {**target, **{key: value for key, value in node.items() if key != "$ref"}}


def _for_editors(node: Any) -> Any:
    """A copy without our own keywords; what enum values mean goes into the keyword that editors show."""
    if isinstance(node, list):
        return [_for_editors(item) for item in node]
    if not isinstance(node, dict):
        return node
    result: Schema = {}
    for key, value in node.items():
        if key == SCHEMA_TYPE:
            continue
        if key == SCHEMA_VALUES:
            result["enumDescriptions"] = value
        elif key in ("default", "examples", "enum", "const"):
            result[key] = value
        elif key in ("properties", "patternProperties"):
            result[key] = {name: _for_editors(inner) for name, inner in value.items()}
        else:
            result[key] = _for_editors(value)
    return result
