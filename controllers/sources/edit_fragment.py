"""Writes YAML fragments that stand on one line, or as a few lines of a block mapping."""

from __future__ import annotations

import io
import re
import sys
from typing import Any

import ruamel.yaml
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, SingleQuotedScalarString

from controllers.sources import yaml_scalars

_DATE_LIKE = re.compile(r"[0-9]{4}-[0-9]")


def inline(value: Any, quote: str = "") -> str:
    """``value`` on one line, fit for any place. ``quote`` is the quote mark of the text that it replaces, or ""."""
    return _dump(_flow([_styled(value, quote)]))[1:-1]


def pair(key: str, value: Any) -> str:
    """``key: value`` on one line, fit for any place."""
    return _dump(_flow({_styled(key, ""): _styled(value, "")}))[1:-1]


def block_lines(key: str, value: Any, step: int) -> list[str]:
    """``key: value`` as lines of a block mapping, mappings in it indented by ``step``, without line breaks."""
    return _dump(CommentedMap({_styled(key, ""): _block(value)}), step).split("\n")


def _styled(value: Any, quote: str) -> Any:
    if isinstance(value, dict):
        return _flow({_styled(key, ""): _styled(inner, "") for key, inner in value.items()})
    if isinstance(value, list | tuple):
        return _flow([_styled(inner, "") for inner in value])
    if not isinstance(value, str):
        return value
    if quote == "'" and value.isprintable():
        return SingleQuotedScalarString(value)
    # Other tools must read a text too, so whatever YAML 1.1 takes for something else is quoted, dates included.
    if quote or not yaml_scalars.is_plain_text(value) or _DATE_LIKE.match(value):
        return DoubleQuotedScalarString(value)
    return value


def _block(value: Any) -> Any:
    if isinstance(value, dict) and value:
        return CommentedMap({_styled(key, ""): _block(inner) for key, inner in value.items()})
    return _styled(value, "")


def _flow(value: dict[Any, Any] | list[Any]) -> Any:
    written = CommentedMap(value) if isinstance(value, dict) else CommentedSeq(value)
    written.fa.set_flow_style()
    return written


def _dump(value: Any, step: int = 2) -> str:
    writer = ruamel.yaml.YAML()
    writer.width = sys.maxsize
    writer.allow_unicode = True
    writer.brace_single_entry_mapping_in_flow_sequence = True
    writer.default_flow_style = False
    writer.indent(mapping=step, sequence=step + 2, offset=step)
    out = io.StringIO()
    writer.dump(value, out)
    return out.getvalue().removesuffix("\n")
