"""Field by field: what differs between two canonical values, and how it is shown without giving a secret away."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.resource import canonical_json

MASK = "********"
_ABSENT = object()
_SECRET_NAME = re.compile(r"secret|passw(?:or)?d|token|api_?key|private_?key|credential|authorization", re.IGNORECASE)
_SECRET_VALUE = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}|"
    r"xox[abprs]-[A-Za-z0-9-]{10,}|AKIA[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{30,}|rmt_[a-z]+_[A-Za-z0-9_]{20,})|"
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
# Looking for fixed words is far quicker than for the patterns: with "token" these are all that the first one finds in
# ASCII, and whatever the second one finds holds one of those.
_NAME_WORDS = (
    "secret", "passwd", "password", "apikey", "api_key", "privatekey", "private_key", "credential", "authorization",
)  # fmt: skip
_VALUE_WORDS = (
    "sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "AKIA", "AIza", "rmt_",
    "PRIVATE KEY",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One leaf that differs. ``old`` or ``new`` is None when the field is absent on that side (JSON null does not
    occur in canonical specs). Values are masked already where they look like a secret."""

    path: str
    old: Any
    new: Any


def diff(old: Any, new: Any, prefix: str = "spec") -> list[FieldChange]:
    """Leaves that differ, in field order. Lists of the same length are compared item by item, others as a whole."""
    changes: list[FieldChange] = []
    _diff(old, new, prefix, changes, secret=False)
    return changes


def _diff(old: Any, new: Any, path: str, changes: list[FieldChange], *, secret: bool) -> None:
    if old == new and type(old) is type(new):
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        # An environment variable is {name, value}: its name says whether the value is a secret.
        hides = secret or any(_SECRET_NAME.search(str(side.get("name", ""))) for side in (old, new))
        for name in sorted({*old, *new}):
            inner = hides if name == "value" else bool(_SECRET_NAME.search(name)) and not name.endswith(("Ref", "From"))
            _diff(old.get(name, _ABSENT), new.get(name, _ABSENT), f"{path}.{name}", changes, secret=inner)
        return
    if isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        for index, (a, b) in enumerate(zip(old, new, strict=True)):
            _diff(a, b, f"{path}[{index}]", changes, secret=secret)
        return
    changes.append(FieldChange(path, _shown(old, secret), _shown(new, secret)))


def _shown(value: Any, secret: bool) -> Any:
    if value is _ABSENT:
        return None
    return masked(value, secret=secret)


def may_hide(text: str) -> bool:
    """Whether anything in a canonical JSON text may look like a secret. If not, ``masked`` changes nothing."""
    if not text.isascii():  # characters that a look without regard to case takes for letters of these words
        return _SECRET_NAME.search(text) is not None or _shows_value(text)
    low = text.lower()
    for word in _NAME_WORDS:
        if word in low:
            return True
    at = low.find("token")
    while at >= 0:
        # A key that ends in "tokens" and has a number: how many were used. Numbers are never masked.
        if low[at : at + 8] != 'tokens":' or not low[at + 8 : at + 9].isdigit():
            return True
        at = low.find("token", at + 8)
    for word in _VALUE_WORDS:
        if word in text:
            return _shows_value(text)
    return False


def _shows_value(text: str) -> bool:
    # An escape ends in a letter, behind which no word would begin.
    return "\\" in text or _SECRET_VALUE.search(text) is not None


def masked_whole(value: dict[str, Any]) -> dict[str, Any]:
    """``masked``, and the value itself where nothing in it looks like a secret: one look at its text, which most values
    pass, costs a tenth of a look at each field."""
    if not may_hide(canonical_json(value)):
        return value
    found = masked(value)
    assert isinstance(found, dict)
    return found


def masked(value: Any, *, secret: bool = False) -> Any:
    """The value with everything that looks like a secret replaced by stars."""
    if isinstance(value, Mapping):
        hides = secret or bool(_SECRET_NAME.search(str(value.get("name", ""))))
        return {
            k: masked(
                v, secret=hides if k == "value" else bool(_SECRET_NAME.search(k)) and not k.endswith(("Ref", "From"))
            )
            for k, v in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [masked(v, secret=secret) for v in value]
    if isinstance(value, str) and (secret or _SECRET_VALUE.search(value)):
        return MASK
    return value
