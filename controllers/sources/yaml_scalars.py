"""Plain YAML scalars: what an unquoted text means under the YAML 1.2 core schema, and where YAML 1.1 disagrees.

A file is read by more than one tool, and many of them (kubectl, older libraries) still follow YAML 1.1. A text that
the two versions read as different values is therefore a fault of the file, never a silent choice. Timestamps are
the one exception: they stay texts, as every consumer behind JSON sees them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Trap:
    """A plain scalar that must not stand as it is: what is wrong, and what to write instead."""

    message: str
    expected: str


def _word_trap(text: str, reading: str) -> Trap:
    return Trap(f"YAML 1.1 tools read {text} as {reading}", f"{reading}, or the text '{text}' in quotes")


def _spellings(word: str) -> tuple[str, str, str]:
    return word, word.capitalize(), word.upper()


WORDS: dict[str, Scalar | Trap] = {"": None, "~": None}
"""Plain scalars that are no numbers and no texts, and those that must not stand as they are."""
WORDS |= dict.fromkeys(_spellings("null"))
WORDS |= dict.fromkeys(_spellings("true"), True)
WORDS |= dict.fromkeys(_spellings("false"), False)
WORDS |= {s: _word_trap(s, "true") for word in ("yes", "on", "y") for s in _spellings(word)}
WORDS |= {s: _word_trap(s, "false") for word in ("no", "off", "n") for s in _spellings(word)}
WORDS["="] = Trap("YAML 1.1 gives a lone = a meaning of its own", "'=' in quotes")
WORDS["<<"] = Trap("<< is a merge mark of YAML 1.1 and not supported", "the fields written out, or '<<' in quotes")

# Every alternative starts at a digit, sign or point and is matched against the whole text, so the time is linear.
_NUMBER = re.compile(
    r"""
      (?P<int>     [-+]?(?:0|[1-9][0-9]*) )
    | (?P<hex>     0x[0-9a-fA-F]+ )
    | (?P<float>   (?:\.[0-9]+|[-+]?[0-9]+\.[0-9]*)(?:[eE][-+][0-9]+)? )
    | (?P<zero>    [-+]?0[0-9]+ )
    | (?P<octal>   0o[0-7]+ )
    | (?P<bits>    [-+]?0b[01_]+ | [-+]0x[0-9a-fA-F_]+ )
    | (?P<power>   [-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)? )
    | (?P<grouped> [-+]?[0-9_]+(?:\.[0-9_]*(?:[eE][-+][0-9]+)?)? | \.[0-9_]+(?:[eE][-+][0-9]+)?
                 | 0x[0-9a-fA-F_]+ )
    | (?P<sixty>   [-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+ | [-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]* )
    | (?P<special> [-+]?\.(?:inf|Inf|INF) | \.(?:nan|NaN|NAN) )
    """,
    re.VERBOSE,
)

# A longer text is no number that anybody needs; if it looks like one, it is refused without a closer look.
_LONGEST_NUMBER = 1000
_NUMERIC = re.compile(r"[-+0-9a-fA-FxoeE_.:]*")

_MAX_INT = 2**63 - 1
_MIN_INT = -(2**63)
_MAX_INT_DIGITS = 20

_TOO_LARGE = Trap("the number does not fit into 64 bits", "a smaller number, or a text in quotes")
_NOT_FINITE = Trap("the number is not finite", "a finite number, or a text in quotes")
_TRAPS = {
    "zero": Trap("YAML 1.1 and 1.2 disagree on numbers with a leading zero", "no leading zero, or a text in quotes"),
    "octal": Trap("YAML 1.1 tools read an 0o number as text", "the decimal number, or a text in quotes"),
    "bits": Trap("YAML 1.1 tools read this text as a number", "the decimal number, or a text in quotes"),
    "power": Trap(
        "YAML 1.1 tools read this number as text",
        "the form of -0.5 or 1.5e+3, or a text in quotes",
    ),
    "grouped": Trap("YAML 1.1 tools read digits with underscores as a number", "no underscores, or a text in quotes"),
    "sixty": Trap("YAML 1.1 tools read digits with colons as a number to base 60", "a text in quotes"),
    "special": _NOT_FINITE,
}

NUMERIC_START = frozenset("0123456789+-.")
"""A plain scalar that begins otherwise is never a number."""


def resolve(text: str) -> Scalar | Trap:
    """The value of a plain (unquoted, untagged) scalar, or the Trap that it is."""
    if text[:1] in NUMERIC_START:
        return _number(text)
    return WORDS.get(text, text)


def is_plain_text(text: str) -> bool:
    """Whether ``text``, unquoted, is read as this very text by YAML 1.1 and 1.2 alike (syntax set aside)."""
    return resolve(text) == text


def _number(text: str) -> Scalar | Trap:
    if len(text) > _LONGEST_NUMBER:
        return _TOO_LARGE if _NUMERIC.fullmatch(text) else text
    match = _NUMBER.fullmatch(text)
    if match is None:
        return text
    kind = match.lastgroup
    if kind == "int" or kind == "hex":
        # int() of a very long text would be slow, and refused by Python beyond 4,300 digits.
        if len(text) > _MAX_INT_DIGITS:
            return _TOO_LARGE
        number = int(text, 16 if kind == "hex" else 10)
        return number if _MIN_INT <= number <= _MAX_INT else _TOO_LARGE
    if kind == "float":
        value = float(text)
        return value if math.isfinite(value) else _NOT_FINITE
    return _TRAPS[kind or "special"]
