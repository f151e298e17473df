"""CustomResourceDefinitions of the kinds: what `remit crd` prints and `manifests/crds` holds.

A structural schema says less than our models: a value that passes it may still be refused by the engine, which then
says so in the object's conditions, with the words that a file would get. What it can say, the API server checks at
once, and ``kubectl explain`` shows.

Numbers that may also be written as text (money) have no type, since no structural schema can say "number or string".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from schemas import registry
from schemas.base import API_GROUP, API_VERSION
from schemas.jsonschema import model_schema
from schemas.kind import Column, KindInfo, ObjectClass

Schema = dict[str, Any]

SERVED = (*registry.DECLARABLE, "Run", "ApprovalRequest", "Alert")
"""Kinds that a cluster holds: what people declare and do, and the records that they answer to. Other records are many,
and are read from the read API."""
CATEGORY = "remit"
_VERSION = API_VERSION.partition("/")[2]
_KEPT = frozenset(
    {"type", "description", "default", "pattern", "properties", "required", "items", "enum", "format", "maxLength",
     "minLength", "maximum", "minimum", "maxItems", "minItems", "maxProperties", "minProperties"}
)  # fmt: skip
_COLUMN_TYPES = {"integer": "integer", "date": "date"}
_MOST_REPEATS = 1000
_LONG_REPEAT = re.compile(r"\{([0-9]+),([0-9]+)\}")
_ONE_CLASS = re.compile(r"\^\[[^\]]*\]\{[0-9]+,[0-9]+\}\$")
_FREE = {"x-kubernetes-preserve-unknown-fields": True}


def definition(info: KindInfo) -> Schema:
    """The CustomResourceDefinition of a kind."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{info.plural}.{API_GROUP}",
            "labels": {"app.kubernetes.io/name": "remit", "app.kubernetes.io/part-of": "remit"},
        },
        "spec": {
            "group": API_GROUP,
            "names": {
                "kind": info.kind,
                "listKind": f"{info.kind}List",
                "plural": info.plural,
                "singular": info.singular,
                **({"shortNames": list(info.short_names)} if info.short_names else {}),
                "categories": [CATEGORY],
            },
            "scope": "Namespaced" if info.namespaced else "Cluster",
            "versions": [
                {
                    "name": _VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [column(c) for c in info.columns],
                    "schema": {"openAPIV3Schema": _whole(info)},
                }
            ],
        },
    }


def definitions(kinds: Iterable[str] = SERVED) -> list[Schema]:
    """Those of several kinds, in the order given."""
    return [definition(registry.by_kind(kind)) for kind in kinds]


def column(declared: Column) -> Schema:
    """A printer column. Wide ones have a priority above 0: ``kubectl get -o wide`` shows them."""
    made = {
        "name": declared.name.title() if declared.name != "AGE" else "Age",
        "type": _COLUMN_TYPES.get(declared.type, "string"),
        "jsonPath": json_path(declared.path),
    }
    return {**made, "priority": 1} if declared.wide else made


def json_path(path: str) -> str:
    """Our path as kubectl's: ``status.conditions[Ready].status`` picks the condition of that type."""
    parts: list[str] = []
    for part in path.replace("]", "").split("["):
        name, dot, rest = part.partition(".")
        if not parts:
            parts.append(f".{part}")
        elif name.isdecimal():
            parts.append(f"[{name}]{dot}{rest}")
        else:
            parts.append(f'[?(@.type=="{name}")]{dot}{rest}')
    return "".join(parts)


def _whole(info: KindInfo) -> Schema:
    spec = structural(model_schema(info.spec))
    rules = list(spec.get("x-kubernetes-validations", ()))
    if info.object_class is ObjectClass.ACT and info.immutable:
        rules += [_immutable(field, spec) for field in info.immutable]
    if rules:
        spec["x-kubernetes-validations"] = rules
    record = info.object_class is ObjectClass.RECORD
    return {
        "description": info.description,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            # Records are written by the engine alone: whatever it keeps is let through.
            "spec": {**spec, **_FREE} if record else spec,
            # No defaults: what the engine did not say is not there.
            "status": {**_without_defaults(structural(model_schema(info.status))), **_FREE},
        },
    }


def _immutable(field: str, spec: Schema) -> Schema:
    if field in spec.get("required", ()):
        rule = f"self.{field} == oldSelf.{field}"
    else:
        rule = f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
    return {"rule": rule, "message": f"{field} cannot be changed: an act is made once"}


def _without_defaults(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_defaults(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: {name: _without_defaults(inner) for name, inner in value.items()} if key == "properties"
        else _without_defaults(value)
        for key, value in node.items()
        if key != "default"
    }  # fmt: skip


def structural(node: Mapping[str, Any]) -> Schema:
    """A flat JSON Schema of ours (``schemas.jsonschema.model_schema``) as a structural one."""
    made: Schema = {key: value for key, value in node.items() if key in _KEPT}
    if made.get("default") == "":
        del made["default"]  # servers before 1.25 read it as null
    if "pattern" in node:
        _bound_pattern(made)
    if "const" in node:
        made["enum"] = [node["const"]]
    if "exclusiveMinimum" in node:
        made |= {"minimum": node["exclusiveMinimum"], "exclusiveMinimum": True}
    if "anyOf" in node:
        return _either(node, made)
    if "properties" in node:
        made["properties"] = {name: structural(inner) for name, inner in node["properties"].items()}
        _require_one(node, made)
    elif "patternProperties" in node:
        (values,) = node["patternProperties"].values()
        made["additionalProperties"] = structural(values)
    elif isinstance(node.get("additionalProperties"), Mapping):
        made["additionalProperties"] = structural(node["additionalProperties"])
    elif node.get("type") == "object" or "type" not in node:
        made |= _FREE
    if "items" in node:
        made["items"] = structural(node["items"])
        _name_list(made)
    elif node.get("type") == "array":
        made["items"] = dict(_FREE)
        made.pop("maxItems", None)
        made.pop("minItems", None)
    rules = [rule for each in node.get("allOf", ()) if (rule := _block(each)) is not None]
    if rules:
        made["x-kubernetes-validations"] = rules
    return made


def _bound_pattern(made: Schema) -> None:
    """Go counts repeats up to 1000 only; beyond, the length says how many."""
    found = _LONG_REPEAT.search(made["pattern"])
    if found is not None and int(found[2]) > _MOST_REPEATS:
        if _ONE_CLASS.fullmatch(made["pattern"]):
            made.setdefault("maxLength", int(found[2]))
        made["pattern"] = _LONG_REPEAT.sub(lambda m: f"{{{m[1]},}}" if int(m[2]) > _MOST_REPEATS else m[0],
                                           made["pattern"])  # fmt: skip


def _either(node: Mapping[str, Any], made: Schema) -> Schema:
    """A union: text or whole number has a form of its own, anything else is let through for the engine to judge."""
    types = {choice.get("type") for choice in node["anyOf"]}
    kept: Schema = {key: value for key, value in made.items() if key in ("description", "default")}
    if types == {"integer", "string"}:
        return {**kept, "x-kubernetes-int-or-string": True, **_limits(node)}
    return {**kept, **_FREE}


def _limits(node: Mapping[str, Any]) -> Schema:
    """What the two sides of such a union say of their values: bounds speak of numbers only, patterns of text only."""
    found: Schema = {}
    for choice in node["anyOf"]:
        found |= {key: choice[key] for key in ("minimum", "maximum", "pattern", "maxLength") if key in choice}
        if "enum" in choice:
            found |= {"pattern": f"^({'|'.join(choice['enum'])})$", "maxLength": max(map(len, choice["enum"]))}
    return found


def _name_list(made: Schema) -> None:
    """Lists that are maps by a key are merged by it: conditions by their type."""
    items = made["items"].get("properties", {})
    if {"type", "status", "reason", "lastTransitionTime"} <= set(items):
        made |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}


def _require_one(node: Mapping[str, Any], made: Schema) -> None:
    """Exactly one of the fields: counted, as an unknown field is dropped before it could count."""
    if node.get("minProperties") == 1 and node.get("maxProperties") == 1:
        names = ", ".join(node["properties"])
        counted = " + ".join(f"(has(self.{name}) ? 1 : 0)" for name in node["properties"])
        made.pop("minProperties")
        made.pop("maxProperties")
        made["x-kubernetes-validations"] = [{"rule": f"{counted} == 1", "message": f"name exactly one of {names}"}]


def _block(rule: Mapping[str, Any]) -> Schema | None:
    """``if type is X then block Y is there``, as CEL."""
    if "if" not in rule:
        return None
    (name,) = rule["if"]["properties"]
    value = rule["if"]["properties"][name]["const"]
    (block,) = rule["then"]["required"]
    return {
        "rule": f"self.{name} != '{value}' || has(self.{block})",
        "message": f"{name} {value} needs the block {block}",
    }
