"""Reading the columns of a kind out of an object, and writing what people read: ages, and text that cannot act."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

_PART = re.compile(r"([^.\[\]]+)|\[([^\]]+)\]")
# Control characters, and those that change the direction or the width of text: an agent's words could move the cursor
# or show something else than they say.
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def safe(text: str, *, lines: bool = False) -> str:
    """``text`` with everything that could act on a terminal shown as an escape; one line unless ``lines``."""
    if not lines:
        text = text.replace("\n", "\\n").replace("\t", " ")
    return UNSAFE.sub(escape, text)


def escape(match: re.Match[str]) -> str:
    """As Python, YAML and people write it."""
    code = ord(match.group())
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


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
