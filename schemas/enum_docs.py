"""What the members of our enums mean: the comment behind each member, for ``explain`` and the reference pages.

The comment in the code is the only copy. It is read from the module's source, so a build that ships no source has no
descriptions; nothing else depends on them.
"""

from __future__ import annotations

import functools
import inspect
import re
from enum import StrEnum

_MEMBER = re.compile(r'^\s+[A-Z][A-Z0-9_]*\s*=\s*"([^"]+)"\s*(?:#\s*(.*))?$')
_GROUP = re.compile(r"^\s+#\s+(.*)$")
_LINT = re.compile(r"\s*#\s*noqa\b.*$")


@functools.cache
def member_docs(enum: type[StrEnum]) -> dict[str, str]:
    """Value -> comment behind it ("" without one), in the order of definition."""
    found: dict[str, str] = {member.value: "" for member in enum}
    for line in _source(enum):
        match = _MEMBER.match(line)
        if match is not None and match.group(1) in found:
            found[match.group(1)] = _LINT.sub("", match.group(2) or "").strip()
    return found


@functools.cache
def member_groups(enum: type[StrEnum]) -> dict[str, tuple[str, ...]]:
    """Heading -> values below it, for enums whose members stand under comment lines. Members before the first heading
    are under ""."""
    known = {member.value for member in enum}
    groups: dict[str, list[str]] = {"": []}
    heading = ""
    for line in _source(enum):
        title = _GROUP.match(line)
        match = _MEMBER.match(line)
        if title is not None:
            heading = title.group(1).strip()
            groups.setdefault(heading, [])
        elif match is not None and match.group(1) in known:
            groups[heading].append(match.group(1))
    return {title: tuple(values) for title, values in groups.items() if values}


def _source(enum: type[StrEnum]) -> list[str]:
    try:
        return inspect.getsource(enum).splitlines()
    except (OSError, TypeError):
        return []
