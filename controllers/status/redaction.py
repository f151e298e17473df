"""Takes out what looks like a credential from texts that leave the store.

The shape decides: a name such as ``password`` before a value, the prefixes of well-known tokens, keys in armour, and
what stands before the ``@`` of a URL.
"""

from __future__ import annotations

import re
from typing import Any, Final

HIDDEN: Final = "[redacted]"

_ARMOUR = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_URL = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_PREFIXED = re.compile(
    r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}|xox[abeprs]-[A-Za-z0-9-]{10,}"
    r"|sk-[A-Za-z0-9_-]{16,}|AKIA[0-9A-Z]{16}|ASIA[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{30,}|hv[sb]\.[A-Za-z0-9_-]{20,}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)"
)
_BEARER = re.compile(r"\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_NAMED = re.compile(
    r"((?:pass(?:word|wd|phrase)?|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential)s?[\"']?\s*[=:]\s*)"
    r"(?:\[redacted\]|\"[^\"\n]*\"|'[^'\n]*'|[^\s\"',;]+)",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """``text`` with every credential that can be told by its shape replaced. Doing it again changes nothing."""
    text = _ARMOUR.sub(HIDDEN, text)
    text = _URL.sub(HIDDEN, text)
    text = _PREFIXED.sub(HIDDEN, text)
    text = _BEARER.sub(rf"\1\2{HIDDEN}", text)
    return _NAMED.sub(rf"\1{HIDDEN}", text)


def redact_all(value: Any) -> Any:
    """The same for every text in a JSON value; keys stay."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redact_all(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact_all(inner) for inner in value]
    return value
