"""What a tool server says of a tool, in the one form that is digested, pinned and shown to agents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from schemas.policy import Risk
from schemas.resource import canonical_json, digest

_OF_TOOLS = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
_OF_OTHERS = ("name", "title", "description", "arguments", "label", "mimeType", "annotations")
FIELDS = (*_OF_TOOLS, "arguments", "label", "mimeType")
"""Everything of a definition that reaches an agent. Icons and ``_meta`` do not."""
PROMPTS, RESOURCES, TEMPLATES = "prompt/", "resource/", "template/"
"""What the names of definitions begin with that are no tools: a tool has no such name."""
MAX_DEFINITION = 64 * 1024
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_OTHER = re.compile(r"(prompt|resource|template)/[\x21-\x7e]{1,400}")
_EXPRESSION = re.compile(r"\{([+#./;?&]?)[^{}]*\}")
_DEPTH = 60


class Unreadable(ValueError):
    """This is no definition of a tool. The message says why and quotes nothing of it."""


def definition_of(wire: Mapping[str, Any]) -> dict[str, Any]:
    """The definition as it is pinned: the known fields, without those that are absent. Raises Unreadable."""
    name = wire.get("name")
    other = isinstance(name, str) and _OTHER.fullmatch(name) is not None
    made = {field: wire[field] for field in (_OF_OTHERS if other else _OF_TOOLS) if wire.get(field) is not None}
    if not other:
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise Unreadable("its name is not made of 1 to 128 letters, digits, _ . and -")
        if not isinstance(made.get("inputSchema"), dict):
            raise Unreadable("it has no inputSchema")
    if not _plain(made):
        raise Unreadable("it holds what JSON cannot carry, or is nested too deeply")
    if len(canonical_json(made).encode("utf-8", "surrogatepass")) > MAX_DEFINITION:
        raise Unreadable(f"its definition is larger than {MAX_DEFINITION // 1024} KiB")
    return made


def is_tool(name: str) -> bool:
    """Whether a definition of that name is one of a tool, and not of a prompt, a resource or a template."""
    return "/" not in name


def of_prompt(wire: Mapping[str, Any]) -> dict[str, Any]:
    """A prompt, as its server lists it, in the form of a definition; likewise the others."""
    return {**wire, "name": f"{PROMPTS}{wire.get('name')}"}


def of_resource(wire: Mapping[str, Any]) -> dict[str, Any]:
    """See ``of_prompt``."""
    return {**wire, "label": wire.get("name"), "name": f"{RESOURCES}{wire.get('uri')}"}


def of_template(wire: Mapping[str, Any]) -> dict[str, Any]:
    """See ``of_prompt``."""
    return {**wire, "label": wire.get("name"), "name": f"{TEMPLATES}{wire.get('uriTemplate')}"}


def fits(template: str, uri: str) -> bool:
    """Whether an address may have come from a template: a plain ``{name}`` stands for one step of a path."""
    parts, end = [], 0
    for found in _EXPRESSION.finditer(template):
        parts += [re.escape(template[end : found.start()]), ".*" if found[1] else "[^/?#]+"]
        end = found.end()
    return re.fullmatch("".join([*parts, re.escape(template[end:])]), uri) is not None


def digest_of(definition: Mapping[str, Any]) -> str:
    """``sha256:<hex>`` of what ``definition_of`` gave: what a pin names."""
    return digest(dict(definition))


def parts_of(definition: Mapping[str, Any]) -> dict[str, str]:
    """A short digest of each field, to tell what changed."""
    return {field: digest(value)[7:23] for field, value in definition.items()}


def hinted_risk(definition: Mapping[str, Any]) -> Risk | None:
    """The risk that the annotations name. They come from the server and can raise a risk only, so what they leave out
    means nothing here."""
    said = definition.get("annotations")
    if not isinstance(said, dict):
        return None
    if said.get("destructiveHint") is True and said.get("readOnlyHint") is not True:
        return Risk.RED
    if said.get("openWorldHint") is True:
        return Risk.YELLOW
    return None


def _plain(value: Any) -> bool:
    stack: list[tuple[int, Any]] = [(1, value)]
    while stack:
        depth, item = stack.pop()
        if isinstance(item, dict):
            if depth > _DEPTH or any(not _text(key) for key in item):
                return False
            stack.extend((depth + 1, inner) for inner in item.values())
        elif isinstance(item, list | tuple):
            if depth > _DEPTH:
                return False
            stack.extend((depth + 1, inner) for inner in item)
        elif isinstance(item, float):
            if item != item or item in (float("inf"), float("-inf")):
                return False
        elif isinstance(item, int):
            if not -(2**63) <= item < 2**63:
                return False
        elif item is not None and not _text(item):
            return False
    return True


def _text(value: Any) -> bool:
    """A text that UTF-8 can carry: lone surrogates have no bytes, and so no digest."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
