"""What a validation error says, in plain words: what was found, and what is expected instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import StringConstraints

from controllers.sources.findings import cut, excerpt
from schemas import base, executor, proposal, source

_LISTED = 12
_COMPARED = 100
_MESSAGE_LENGTH = 400


@dataclass(frozen=True, slots=True)
class Words:
    """A message, what is expected ("" when the message says it), and a hint ("" when there is none)."""

    message: str
    expected: str = ""
    hint: str = ""


def listed(options: Sequence[str]) -> str:
    """``A, B or C``; of many, the first twelve."""
    shown = [cut(option) for option in options[:_LISTED]]
    if len(options) > _LISTED:
        return ", ".join(shown) + f" or {len(options) - _LISTED} others"
    return " or ".join(filter(None, (", ".join(shown[:-1]), shown[-1]))) if shown else ""


def closest(name: str, options: Iterable[str]) -> str | None:
    """The option that ``name`` was probably meant to be, None when nothing is near."""
    if len(name) > _COMPARED:
        return None
    known = [option for option in options if len(option) <= _COMPARED]
    folded = {_folded(option): option for option in reversed(known)}
    same = folded.get(_folded(name))
    if same is not None:
        return same
    near = difflib.get_close_matches(_folded(name), list(folded), n=1, cutoff=0.7)
    return folded[near[0]] if near else None


def _folded(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def did_you_mean(name: object, options: Iterable[str]) -> str:
    """A hint such as ``did you mean Human?``, or ""."""
    near = closest(name, options) if isinstance(name, str) else None
    return f"did you mean {cut(near)}?" if near else ""


def describe(kind: str, value: object, context: Mapping[str, Any], fallback: str) -> Words:
    """The words for the pydantic error type ``kind`` about ``value``; ``fallback`` is pydantic's own message.

    ``missing`` and ``extra_forbidden`` are not worded here: they need the model.
    """
    if kind in ("value_error", "assertion_error"):
        # The validators are ours and their texts already plain; what they quote may still be hostile.
        return Words(cut(str(context.get("error", fallback)), _MESSAGE_LENGTH))
    if kind in ("enum", "literal_error"):
        options = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        expected = listed(options) or cut(str(context.get("expected", "")), _MESSAGE_LENGTH)
        return Words(f"{excerpt(value)} is not one of the choices", expected, did_you_mean(value, options))
    if kind == "string_pattern_mismatch":
        return _pattern(value, str(context.get("pattern", "")))
    if kind in _TYPES:
        return _type(kind, value)
    if kind in _BOUNDS:
        return Words(f"{excerpt(value)} is out of range", _BOUNDS[kind](context))
    if kind in _SIZES:
        return Words(_size(value), _SIZES[kind](context))
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        options = re.findall(r"'([^']*)'", str(context.get("expected_tags", "")))
        field = str(context.get("discriminator", "")).strip("'")
        found = f"{excerpt(context['tag'])} is not one of the choices" if "tag" in context else "the choice is missing"
        return Words(f"{cut(field)}: {found}", listed(options), did_you_mean(context.get("tag"), options))
    return Words(f"{excerpt(value)} is not accepted: {cut(fallback[:1].lower() + fallback[1:], _MESSAGE_LENGTH)}")


_TYPES = {
    "string_type": "a text",
    "string_sub_type": "a text",
    "string_unicode": "a text",
    "string_not_ascii": "ASCII characters only",
    "bytes_type": "a text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "decimal_type": "a number",
    "decimal_parsing": "a number",
    "none_required": "null, or no such field",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dataclass_type": "a mapping",
    "dict_type": "a mapping",
    "frozen_dict_type": "a mapping",
    "ordered_dict_type": "a mapping",
    "mapping_type": "a mapping",
    "invalid_key": "a text as key",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "iterable_type": "a list",
    "named_tuple_type": "a list",
    "date_type": "a date such as 2026-11-21",
    "date_parsing": "a date such as 2026-11-21",
    "date_from_datetime_parsing": "a date such as 2026-11-21",
    "date_from_datetime_inexact": "a date such as 2026-11-21, without a time of day",
    "time_type": "a time of day such as 06:30",
    "time_parsing": "a time of day such as 06:30",
    "datetime_type": "a time such as 2026-11-21T09:00:00Z",
    "datetime_parsing": "a time such as 2026-11-21T09:00:00Z",
    "datetime_from_date_parsing": "a time such as 2026-11-21T09:00:00Z",
    "datetime_object_invalid": "a time such as 2026-11-21T09:00:00Z",
    "timezone_aware": "a time with its zone such as 2026-11-21T09:00:00Z",
    "timezone_naive": "a time without a zone",
    "time_delta_type": "a duration such as 90s, 15m or 1h30m",
    "time_delta_parsing": "a duration such as 90s, 15m or 1h30m",
    "url_type": "a URL such as https://example.org/path",
    "url_parsing": "a URL such as https://example.org/path",
    "url_syntax_violation": "a URL such as https://example.org/path",
    "uuid_type": "a UUID",
    "uuid_parsing": "a UUID",
}

_BOUNDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than": lambda context: f"more than {excerpt(context.get('gt'))}",
    "greater_than_equal": lambda context: f"at least {excerpt(context.get('ge'))}",
    "less_than": lambda context: f"less than {excerpt(context.get('lt'))}",
    "less_than_equal": lambda context: f"at most {excerpt(context.get('le'))}",
    "multiple_of": lambda context: f"a multiple of {excerpt(context.get('multiple_of'))}",
    "decimal_max_digits": lambda context: f"at most {context.get('max_digits')} digits",
    "decimal_max_places": lambda context: f"at most {context.get('decimal_places')} decimals",
    "decimal_whole_digits": lambda context: f"at most {context.get('whole_digits')} digits before the point",
    "date_past": lambda context: "a date in the past",
    "date_future": lambda context: "a date in the future",
    "datetime_past": lambda context: "a time in the past",
    "datetime_future": lambda context: "a time in the future",
    "uuid_version": lambda context: f"a UUID of version {context.get('expected_version')}",
    "url_scheme": lambda context: f"a URL that begins with {context.get('expected_schemes')}",
}

_SIZES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "string_too_short": lambda context: _at_least(context, "character"),
    "string_too_long": lambda context: _at_most(context, "character"),
    "bytes_too_short": lambda context: _at_least(context, "byte"),
    "bytes_too_long": lambda context: _at_most(context, "byte"),
    "url_too_long": lambda context: _at_most(context, "character"),
    "too_short": lambda context: _at_least(context, "entry"),
    "too_long": lambda context: _at_most(context, "entry"),
}


def _plural(count: object, noun: str) -> str:
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun[:-1]}ies" if noun.endswith("y") else f"{count} {noun}s"


def _at_least(context: Mapping[str, Any], noun: str) -> str:
    return f"at least {_plural(context.get('min_length'), noun)}"


def _at_most(context: Mapping[str, Any], noun: str) -> str:
    return f"at most {_plural(context.get('max_length'), noun)}"


def _size(value: object) -> str:
    if isinstance(value, str):
        return f"{excerpt(value)} has {_plural(len(value), 'character')}"
    if isinstance(value, list | dict | tuple):
        return f"{excerpt(value)} of {_plural(len(value), 'entry')}"
    return excerpt(value)


def _type(kind: str, value: object) -> Words:
    expected = _TYPES[kind]
    if value is None:
        return Words("there is no value here", expected, "write one, or leave the field out")
    if expected == "a text" and isinstance(value, int | float):
        shown = excerpt(value)
        return Words(f"{shown} is {_noun(value)}", expected, f"in quotes it is a text: '{shown}'")
    if isinstance(value, str | int | float):
        return Words(f"{excerpt(value)} is {_noun(value)}", expected)
    return Words(f"this is {excerpt(value)}", expected)


def _noun(value: object) -> str:
    if isinstance(value, bool):
        return "no text or number but true or false"
    if isinstance(value, int):
        return "a whole number"
    return "a number" if isinstance(value, float) else "a text"


def _constraint(annotation: Any) -> str:
    """The pattern of an annotated text type of ``schemas.base``."""
    return next(str(part.pattern) for part in get_args(annotation) if isinstance(part, StringConstraints))


PATTERNS: dict[str, str] = {
    r"^[0-9a-f]{7,64}$": "a commit: 7 to 64 hexadecimal digits",
    source.BRANCH_PATTERN: "a branch such as remit/status",
    source.REPOSITORY_PATTERN: "owner/name, such as acme/agents",
    r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?$": "a host such as git.example.org, or host:port",
    proposal.FIELD_PATTERN: "a field below spec, such as spec.limits.usd",
    _constraint(proposal.NameGlob): "a name, or one with '*' for any characters",
    base.NAME_PATTERN: "a name of lower-case letters, digits, '-' and '.', with a letter or digit at both ends",
    base.NAMESPACE_PATTERN: "at most 63 lower-case letters, digits and '-', with a letter or digit at both ends",
    base.SUBJECT_PATTERN: "a subject such as user:alice, agent:default/auditor or service:ci",
    base.LINE_PATTERN: "one line without control characters",
    r"^([A-Za-z0-9_.-]{1,128}|(prompt|resource|template)/[\x21-\x7e]{1,400})$": (
        "the name of a tool: letters, digits, '_', '.' and '-'; or prompt/NAME, resource/URI, template/URI"
    ),
    r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,199}$": "the id of a session: letters, digits, '.', '_', ':' and '-'",
    r"^[\x20-\x7e]*$": "printable ASCII, such as 'Bearer '",
    r"^https?://[\x21-\x7e]+$": "an address such as https://mcp.example.org/mcp",
    _constraint(base.LabelKey): (
        "a key such as team or example.org/team: letters, digits, '-', '_' and '.', at most 63 of them after the '/'"
    ),
    _constraint(base.LabelValue): "at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends",
    r"^sha256:[0-9a-f]{64}$": "a digest: sha256: and 64 hexadecimal digits",
    r"^[^\x00]*$": "a text without NUL characters",
    r"^[^\x00-\x1f\x7f]+$": "one line without control characters",
    r"^[^\s\x00-\x1f\x7f]+$": "a word without spaces or control characters",
    r"^[!-~]+$": "ASCII characters without spaces",
    r"^[A-Za-z0-9._~@=+/-]{1,1000}$": "a path such as team/database: letters, digits and . _ ~ @ = + -",
    r"^[A-Za-z0-9/_+=.@:-]{1,2048}$": "a name or ARN: letters, digits, '/', '_', '+', '=', '.', '@', ':' and '-'",
    r"^[A-Za-z0-9._/-]{1,255}$": "letters, digits, '.', '_', '/' and '-'",
    r"^[A-Za-z0-9._-]{1,100}$": "letters, digits, '.', '_' and '-'",
    r"^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$": "a region such as eu-central-1",
    r"^https?://[^\s\x00-\x1f]+$": "an address that begins with http:// or https://, without spaces",
    r"^https?://[^\s\x00-\x1f\x7f]+$": "an address that begins with http:// or https://, without spaces",
    r'^https://[^\s\x00-\x1f\x7f<>"\\]+$': "an address that begins with https://, without spaces or quotes",
    executor.HEADER_PATTERN: "the name of a header, such as X-Team",
    executor.CANCEL_PATH_PATTERN: "a path such as /runs/{run}",
    r"^wss?://[^\s\x00-\x1f]+$": "an address that begins with ws:// or wss://, without spaces",
    r"^wss?://[^\s\x00-\x1f\x7f]+$": "an address that begins with ws:// or wss://, without spaces",
    r"^(sqlite:///|postgresql(\+psycopg)?://).+": "sqlite:/// and a file, or postgresql:// and an address",
    r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$": "an address and a port, such as 127.0.0.1:8420",
    r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$": "a host name such as mail.example.org",
    r"^[A-Za-z0-9._%+'-]+@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$": "an address such as alice@example.org",
    r"^([01][0-9]|2[0-3]):[0-5][0-9]$": "a time of day in quotes, such as '22:00'",
    r"^(-?[0-9]{1,19}|@[A-Za-z][A-Za-z0-9_]{3,63})$": "a chat id such as '-1001234567890', or @name",
    r"^[A-Z][A-Z0-9]{7,20}$|^#[a-z0-9_-]{1,80}$": "a channel id such as C0123456789, or #name",
    r"^[UW][A-Z0-9]{7,20}$": "a user id such as U0123456789",
    r"^[A-Za-z0-9_.:/@*?\[\]!-]+$": "a tool name or glob: letters, digits and any of _ . : / @ * ? [ ] ! -",
    r"^[A-Za-z0-9_-]{1,64}$": "1 to 64 letters, digits, '-' and '_'",
    r"^[A-Z][A-Za-z0-9]{0,62}$": "a word in PascalCase: a capital letter, then letters and digits, at most 63",
    r"^[A-Za-z_][A-Za-z0-9_]{0,254}$": "the name of an environment variable: letters, digits and '_'",
}
"""The patterns of the schemas, in words. A pattern that is missing here is shown as it is."""

_CHOICES = re.compile(r"\^\(([A-Za-z0-9]+(?:\|[A-Za-z0-9]+)*)\)\$")


def _pattern(value: object, pattern: str) -> Words:
    choices = _CHOICES.fullmatch(pattern)
    if choices is not None:
        options = choices.group(1).split("|")
        return Words(f"{excerpt(value)} is not one of the choices", listed(options), did_you_mean(value, options))
    return Words(
        f"{excerpt(value)} does not have the right form",
        PATTERNS.get(pattern) or f"a text that matches {cut(pattern, 200)}",
    )
