"""How objects are printed: table, wide, json, yaml, name. Text that agents or specs supplied is made harmless first."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from schemas.identity import API_VERSION

if TYPE_CHECKING:
    from schemas.kind import KindInfo
    from schemas.resource import Resource

_CELL = 60
_PART = re.compile(r"([^.\[\]]+)|\[([^\]]+)\]")
# Control characters, and those that change the direction or the width of text: an agent's words could move the cursor
# or show something else than they say.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


class Format(StrEnum):
    """Values of ``-o``."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


def safe(text: str, *, lines: bool = False) -> str:
    """``text`` with everything that could act on a terminal shown as an escape; one line unless ``lines``."""
    if not lines:
        text = text.replace("\n", "\\n").replace("\t", " ")
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    """As Python, YAML and people write it."""
    code = ord(match.group())
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _escape_json(match: re.Match[str]) -> str:
    """As JSON writes it: two halves beyond the first 65536 characters."""
    return json.dumps(match.group())[1:-1] if ord(match.group()) > 0x9F else f"\\u{ord(match.group()):04x}"


def value_at(document: Any, path: str) -> Any:
    """The value at a dotted path such as ``status.blockedOn[0].hint`` or ``status.conditions[Ready].status``; None when
    there is none."""
    for match in _PART.finditer(path):
        name, index = match.groups()
        if name is not None:
            document = document.get(name) if isinstance(document, dict) else None
        elif isinstance(document, list):
            if index.isdigit():
                document = document[int(index)] if int(index) < len(document) else None
            else:
                document = next((x for x in document if isinstance(x, dict) and x.get("type") == index), None)
        else:
            document = None
        if document is None:
            return None
    return document


def age(since: datetime | None, now: datetime) -> str:
    """``5s``, ``12m``, ``3h20m``, ``4d``; ``in 4h`` for the future; ``-`` for none."""
    if since is None:
        return "-"
    seconds = (now - since).total_seconds()
    text = _span(abs(seconds))
    return text if seconds >= 0 else f"in {text}"


def _span(seconds: float) -> str:
    whole = int(seconds)
    if whole < 120:
        return f"{whole}s"
    minutes = whole // 60
    if minutes < 120:
        return f"{minutes}m"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h{rest}m" if rest and hours < 10 else f"{hours}h"
    return f"{hours // 24}d"


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
    return _UNSAFE.sub(_escape_json, json.dumps(value, indent=2, ensure_ascii=False))


def dump_yaml(value: Any) -> str:
    """YAML for people: block style, no line folding, multi-line texts as blocks."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
        if _UNSAFE.search(data):
            return dumper.represent_scalar("tag:yaml.org,2002:str", data, style='"')
        style = "|" if "\n" in data and not data.startswith((" ", "\n")) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    Dumper.add_multi_representer(str, lambda dumper, data: text(dumper, str(data)))  # enums of words too
    Dumper.add_representer(str, text)
    dumped = yaml.dump(
        value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=10_000, default_flow_style=False
    )
    return _UNSAFE.sub(_escape, str(dumped).rstrip("\n"))


def is_terminal() -> bool:
    """Whether standard output is a terminal that takes colour: NO_COLOR and TERM=dumb say no."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


_COLOURS = {"good": "32", "busy": "34", "attention": "33", "bad": "31", "dim": "2", "bold": "1"}


def paint(text: str, colour: str) -> str:
    """``text`` in a colour of the palette when standard output takes it; colour is never the only sign of anything."""
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if is_terminal() else text
