"""OpenAPI v3 of the objects, as ``kubectl explain`` reads it."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

from api.read.answers import json_bytes
from api.read.kube.discovery import VERSION, served
from schemas.base import API_GROUP
from schemas.explain import FieldDoc, object_doc
from schemas.kind import KindInfo

PATH = f"apis/{API_GROUP}/{VERSION}"
_TYPES: dict[str, dict[str, Any]] = {
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "time": {"type": "string", "format": "date-time"},
    "any": {"x-kubernetes-preserve-unknown-fields": True},
}


@functools.cache
def index() -> dict[str, Any]:
    """``/openapi/v3``: where the documents are; the hash lets clients keep them."""
    digest = hashlib.sha256(json_bytes(document())).hexdigest().upper()
    return {"paths": {PATH: {"serverRelativeURL": f"/openapi/v3/{PATH}?hash={digest}"}}}


@functools.cache
def document() -> dict[str, Any]:
    """The document of our group. Treat it as immutable: it is shared."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for info in served():
        name = f"dev.remit.{VERSION}.{info.kind}"
        gvk = {"group": API_GROUP, "version": VERSION, "kind": info.kind}
        schemas[name] = {**_schema(object_doc(info)), "x-kubernetes-group-version-kind": [gvk]}
        schemas[f"{name}List"] = _list_schema(info, name)
        scope = f"/{PATH}/namespaces/{{namespace}}" if info.namespaced else f"/{PATH}"
        parameters = [_path_parameter("namespace")] if info.namespaced else []
        answer = {"$ref": f"#/components/schemas/{name}"}
        listed = {"$ref": f"#/components/schemas/{name}List"}
        paths[f"{scope}/{info.plural}"] = {"parameters": parameters, "get": _operation("list", gvk, listed)}
        named = [*parameters, _path_parameter("name")]
        paths[f"{scope}/{info.plural}/{{name}}"] = {"parameters": named, "get": _operation("get", gvk, answer)}
        if info.namespaced:
            paths[f"/{PATH}/{info.plural}"] = {"get": _operation("list", gvk, listed, everywhere=True)}
    return {
        "openapi": "3.0.0",
        "info": {"title": "Remit", "version": VERSION},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _list_schema(info: KindInfo, name: str) -> dict[str, Any]:
    return {
        "type": "object",
        "description": f"A list of {info.kind} objects.",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "items": {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}},
        },
        "x-kubernetes-group-version-kind": [{"group": API_GROUP, "version": VERSION, "kind": f"{info.kind}List"}],
    }


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _operation(verb: str, gvk: dict[str, str], schema: dict[str, Any], *, everywhere: bool = False) -> dict[str, Any]:
    return {
        "operationId": f"{verb}{gvk['kind']}{'ForAllNamespaces' if everywhere else ''}",
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": schema}}}},
        "x-kubernetes-action": verb,
        "x-kubernetes-group-version-kind": gvk,
    }


def _schema(field: FieldDoc) -> dict[str, Any]:
    """One field, from the description that ``remit explain`` reads, too."""
    about: dict[str, Any] = {"description": field.description} if field.description else {}
    if field.values:
        about["enum"] = [value.name for value in field.values]
    return {**about, **_typed(field.type, field)}


def _typed(type_: str, field: FieldDoc) -> dict[str, Any]:
    if type_.startswith("[]"):
        return {"type": "array", "items": _typed(type_[2:], field)}
    if type_.startswith("map[string]"):
        return {"type": "object", "additionalProperties": _typed(type_[len("map[string]") :], field)}
    if type_ == "Object":
        found: dict[str, Any] = {"type": "object"}
        if field.fields:
            found["properties"] = {child.name: _schema(child) for child in field.fields}
            required = [child.name for child in field.fields if child.required]
            if required:
                found["required"] = required
        return found
    return dict(_TYPES.get(type_, {"type": "string"}))
