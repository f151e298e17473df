"""How objects are printed: table, wide, json, yaml, name. Text that agents or specs supplied is made harmless first."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from schemas.columns import UNSAFE, escape
from schemas.columns import age as age
from schemas.columns import safe as safe
from schemas.columns import value_at as value_at
from schemas.identity import API_VERSION

if TYPE_CHECKING:
    from datetime import datetime

    from schemas.kind import KindInfo
    from schemas.resource import Resource

_CELL = 60


class Format(StrEnum):
    """Values of ``-o``."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


def _escape_json(match: re.Match[str]) -> str:
    """As JSON writes it: two halves beyond the first 65536 characters."""
    return json.dumps(match.group())[1:-1] if ord(match.group()) > 0x9F else f"\\u{ord(match.group()):04x}"


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Aligned columns with two spaces between them; nothing after the last."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def cell(document: dict[str, Any], path: str, type_: str, now: datetime, *, wide: bool) -> str:
    """One table cell."""
    value = value_at(document, path)
    if value is None or value == "":
        return "-"
    if type_ == "date":
        from schemas.quantities import parse_time

        try:
            return age(parse_time(value), now)
        except ValueError:
            return "-"
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    text = safe(str(value))
    return text if wide or len(text) <= _CELL else text[: _CELL - 3] + "..."


def rows(
    info: KindInfo, resources: Iterable[Resource], now: datetime, *, wide: bool, namespaces: bool
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a kind's table."""
    columns = [c for c in info.columns if wide or not c.wide]
    header = [*(["NAMESPACE"] if namespaces else []), "NAME", *(c.name for c in columns)]
    body = []
    for resource in resources:
        document = resource.to_wire()
        start = [*([resource.namespace or "-"] if namespaces else []), safe(resource.name)]
        body.append([*start, *(cell(document, c.path, c.type, now, wide=wide) for c in columns)])
    return header, body


def as_list(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The list form of ``-o json`` and ``-o yaml``."""
    return {"apiVersion": API_VERSION, "kind": "List", "items": list(documents)}


def dump_json(value: Any) -> str:
    """Indented JSON; characters outside ASCII stay readable, control characters are escaped."""
    return UNSAFE.sub(_escape_json, json.dumps(value, indent=2, ensure_ascii=False))


def dump_yaml(value: Any) -> str:
    """YAML for people: block style, no line folding, multi-line texts as blocks."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
        if UNSAFE.search(data):
            return dumper.represent_scalar("tag:yaml.org,2002:str", data, style='"')
        style = "|" if "\n" in data and not data.startswith((" ", "\n")) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    Dumper.add_multi_representer(str, lambda dumper, data: text(dumper, str(data)))  # enums of words too
    Dumper.add_representer(str, text)
    dumped = yaml.dump(
        value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=10_000, default_flow_style=False
    )
    return UNSAFE.sub(escape, str(dumped).rstrip("\n"))


def is_terminal() -> bool:
    """Whether standard output is a terminal that takes colour: NO_COLOR and TERM=dumb say no."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


_COLOURS = {"good": "32", "busy": "34", "attention": "33", "bad": "31", "dim": "2", "bold": "1"}


def paint(text: str, colour: str) -> str:
    """``text`` in a colour of the palette when standard output takes it; colour is never the only sign of anything."""
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if is_terminal() else text
