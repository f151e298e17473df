"""The words of a CEL expression: enough to bound and check it before the parser sees it."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_TOKENS = 400
MAX_NESTING = 12
"""Brackets in brackets. The parser recurses, and a thread has only so much stack."""
MAX_UNARY = 3
MAX_CHOICES = 6
MAX_MACROS = 6
MAX_MACRO_NESTING = 2
"""Loops in loops: with MAX_ELEMENTS of the facts this bounds the steps of an evaluation, which knows no limit."""

MACROS = frozenset({"all", "exists", "exists_one", "filter", "map"})
_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
    |(?P<string>[rRbB]{0,2}(?:\"\"\".*?\"\"\"|'''.*?'''|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
    |(?P<number>0[xX][0-9a-fA-F]+[uU]?|[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?[uU]?|\.[0-9]+(?:[eE][+-]?[0-9]+)?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<mark>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE | re.DOTALL,
)
_RAW_STRING = re.compile(r"[rR][bB]?(?:\"[^\"\n]*\"|'[^'\n]*')|[bB][rR](?:\"[^\"\n]*\"|'[^'\n]*')")
_OPEN = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True, slots=True)
class Token:
    """One word. ``kind`` is string, number, name or mark; ``at`` counts characters from 0."""

    kind: str
    text: str
    at: int


class BadExpression(ValueError):
    """The expression cannot be taken. ``at`` is the place in the text, from 0; -1 is the whole."""

    def __init__(self, message: str, at: int = -1, *, hint: str = "") -> None:
        super().__init__(message)
        self.at = at
        self.hint = hint


def tokens(text: str) -> list[Token]:
    """The words without spaces and comments. Raises BadExpression for what is none, and for more than MAX_TOKENS."""
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _RAW_STRING.match(text, at) or _TOKEN.match(text, at)
        if match is None:
            raise BadExpression(f"{text[at : at + 1]!r} has no meaning here", at)
        kind = match.lastgroup or "string"
        if kind != "space":
            found.append(Token(kind, match[0], at))
        at = match.end()
        if len(found) > MAX_TOKENS:
            raise BadExpression(f"longer than {MAX_TOKENS} words", at, hint="write several rules")
    return found


def place(text: str, at: int) -> str:
    """``line 1, column 5`` of a place in the expression."""
    before = text[: max(at, 0)]
    return f"line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"


def check_bounds(words: list[Token]) -> frozenset[str]:
    """Refuse what nests or loops too much; returns the names that loops bind."""
    stack: list[tuple[str, bool]] = []
    bound: set[str] = set()
    macros = choices = run = 0
    for index, word in enumerate(words):
        if word.kind != "mark":
            run = 0
            if word.kind == "name" and word.text == "map" and _is_call(words, index):
                raise BadExpression("map makes new values, and grows", word.at, hint="use exists, all or filter")
            continue
        if word.text in ("!", "-") and (index == 0 or words[index - 1].kind == "mark"):
            run += 1
            if run > MAX_UNARY:
                raise BadExpression(f"more than {MAX_UNARY} of '{word.text}' in a row", word.at)
        else:
            run = 0
        if word.text == "?":
            choices += 1
            if choices > MAX_CHOICES:
                raise BadExpression(f"more than {MAX_CHOICES} choices with '?'", word.at, hint="write several rules")
        elif word.text in _OPEN:
            macro = word.text == "(" and _is_macro(words, index)
            if macro:
                macros += 1
                if macros > MAX_MACROS:
                    raise BadExpression(f"more than {MAX_MACROS} loops", word.at, hint="write several rules")
                if index + 1 < len(words) and words[index + 1].kind == "name":
                    bound.add(words[index + 1].text)
            stack.append((_OPEN[word.text], macro))
            if len(stack) > MAX_NESTING:
                raise BadExpression(f"brackets nest deeper than {MAX_NESTING}", word.at)
            if sum(inner for _, inner in stack) > MAX_MACRO_NESTING:
                raise BadExpression(f"loops nest deeper than {MAX_MACRO_NESTING}", word.at)
        elif word.text in _OPEN.values() and (not stack or stack.pop()[0] != word.text):
            raise BadExpression(f"'{word.text}' closes nothing", word.at)
    if stack:
        raise BadExpression(f"'{stack[-1][0]}' is missing at the end")
    return frozenset(bound)


def _is_call(words: list[Token], index: int) -> bool:
    return index + 1 < len(words) and words[index + 1].text == "(" and index > 0 and words[index - 1].text == "."


def _is_macro(words: list[Token], index: int) -> bool:
    return index > 1 and words[index - 1].text in MACROS and words[index - 2].text == "."
