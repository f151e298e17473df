"""Objects as documents, as rows of a table, and as metadata alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from decisions.fields import masked
from schemas.base import API_VERSION
from schemas.columns import age, safe, value_at
from schemas.kind import KindInfo
from schemas.quantities import parse_time
from schemas.resource import Resource

META = "meta.k8s.io/v1"
_CELL = 80


class Form(StrEnum):
    """What a client asked for in Accept."""

    OBJECT = "Object"
    TABLE = "Table"
    METADATA = "Metadata"


@dataclass(frozen=True, slots=True)
class Wanted:
    """``include`` is what the rows of a table carry: None, Metadata or Object."""

    form: Form
    include: str = "Metadata"


def wanted_of(accept: str, include: str) -> Wanted:
    """What is asked for: the first entry of Accept that we can give."""
    for entry in accept.split(","):
        words = {word.strip() for word in entry.split(";")}
        if "as=Table" in words and "v=v1" in words:
            return Wanted(Form.TABLE, include if include in ("None", "Object") else "Metadata")
        if words & {"as=PartialObjectMetadata", "as=PartialObjectMetadataList"}:
            return Wanted(Form.METADATA)
        if words & {"application/json", "*/*", "application/*"} and not any(w.startswith("as=") for w in words):
            break
    return Wanted(Form.OBJECT)


def document(resource: Resource) -> dict[str, Any]:
    """The whole object; what looks like a secret in its spec is masked."""
    wire = resource.to_wire()
    wire["spec"] = masked(wire["spec"])
    owners = wire["metadata"].get("ownerReferences")
    if owners:
        # Clients want all four fields; the kind and name of an owner are not kept with what it owns.
        wire["metadata"]["ownerReferences"] = [
            {"apiVersion": API_VERSION, "kind": "Object", "name": owner["uid"], **owner} for owner in owners
        ]
    return wire


def metadata(whole: dict[str, Any]) -> dict[str, Any]:
    """A PartialObjectMetadata."""
    return {"kind": "PartialObjectMetadata", "apiVersion": META, "metadata": whole["metadata"]}


def table(
    info: KindInfo, items: Sequence[dict[str, Any]], now: datetime, list_meta: dict[str, Any], include: str
) -> dict[str, Any]:
    """A Table with one row for each object. Text in it cannot act on a terminal."""
    return {
        "kind": "Table",
        "apiVersion": META,
        "metadata": list_meta,
        "columnDefinitions": _definitions(info),
        "rows": [_row(info, item, now, include) for item in items],
    }


def _definitions(info: KindInfo) -> list[dict[str, Any]]:
    name = {"name": "Name", "type": "string", "format": "name", "description": "Name of the object.", "priority": 0}
    return [
        name,
        *(
            {
                "name": column.name.title() if column.name.isupper() else column.name,
                "type": "string",
                "format": "",
                "description": column.path,
                "priority": int(column.wide),
            }
            for column in info.columns
        ),
    ]


def _row(info: KindInfo, item: dict[str, Any], now: datetime, include: str) -> dict[str, Any]:
    cells = [safe(item["metadata"]["name"]), *(_cell(item, c.path, c.type, now) for c in info.columns)]
    row: dict[str, Any] = {"cells": cells}
    if include == "Object":
        row["object"] = item
    elif include == "Metadata":
        row["object"] = metadata(item)
    return row


def _cell(item: dict[str, Any], path: str, type_: str, now: datetime) -> str:
    value = value_at(item, path)
    if value is None or value == "":
        return ""
    if type_ == "date":
        try:
            return age(parse_time(value), now)
        except (ValueError, TypeError):
            return ""
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    text = safe(str(value))
    return text if len(text) <= _CELL else text[: _CELL - 3] + "..."


def as_list(
    info: KindInfo, items: Sequence[dict[str, Any]], list_meta: dict[str, Any], wanted: Wanted, now: datetime
) -> dict[str, Any]:
    """Items in the form that was asked for."""
    if wanted.form is Form.TABLE:
        return table(info, items, now, list_meta, wanted.include)
    if wanted.form is Form.METADATA:
        found = [metadata(item) for item in items]
        return {"kind": "PartialObjectMetadataList", "apiVersion": META, "metadata": list_meta, "items": found}
    return {"kind": f"{info.kind}List", "apiVersion": API_VERSION, "metadata": list_meta, "items": list(items)}


def as_one(info: KindInfo, item: dict[str, Any], wanted: Wanted, now: datetime) -> dict[str, Any]:
    """One object in the form that was asked for."""
    if wanted.form is Form.TABLE:
        list_meta = {"resourceVersion": item["metadata"].get("resourceVersion", "")}
        return table(info, [item], now, list_meta, wanted.include)
    return metadata(item) if wanted.form is Form.METADATA else item
