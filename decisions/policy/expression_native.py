"""A part of CEL in plain Python, for speed: it answers what it is sure of and passes everything else on.

The CEL library copies the facts for each call (35 us) and compiles patterns at each use (35 us). Most conditions
compare a field with a constant. Those are turned into closures here. Wherever the library could answer differently,
with an error, or by conversion, the closure raises Punt and the library decides; a property test holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from decisions.policy.expression_tokens import BadExpression, Token, tokens

Native = Callable[[Mapping[str, Any]], bool]
_Value = Callable[[Mapping[str, Any]], Any]


class Punt(Exception):
    """Not for this evaluator: ask the library."""


def translate(source: str) -> Native | None:
    """A closure over the variables, or None when the expression holds something that only the library knows."""
    try:
        parser = _Parser(tokens(source))
        value = parser.either()
        if parser.at < len(parser.words):
            return None
    except (Punt, BadExpression):
        return None

    def native(variables: Mapping[str, Any]) -> bool:
        found = value(variables)
        if found is True or found is False:
            return bool(found)
        raise Punt

    return native


class _Parser:
    """Recursive descent over bounded words."""

    def __init__(self, words: list[Token]) -> None:
        self.words = words
        self.at = 0

    def peek(self) -> str:
        return self.words[self.at].text if self.at < len(self.words) else ""

    def take(self, text: str = "") -> Token:
        if self.at >= len(self.words) or (text and self.words[self.at].text != text):
            raise Punt
        self.at += 1
        return self.words[self.at - 1]

    def either(self) -> _Value:
        parts = [self.both()]
        while self.peek() == "||":
            self.take()
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else _any(parts)

    def both(self) -> _Value:
        parts = [self.relation()]
        while self.peek() == "&&":
            self.take()
            parts.append(self.relation())
        return parts[0] if len(parts) == 1 else _all(parts)

    def relation(self) -> _Value:
        left = self.sum()
        operator = self.peek()
        if operator in _COMPARE or operator == "in":
            self.take()
            right = self.sum()
            if self.peek() in _COMPARE or self.peek() == "in":
                raise Punt
            return _in(left, right) if operator == "in" else _COMPARE[operator](left, right)
        return left

    def sum(self) -> _Value:
        value = self.unary()
        while self.peek() in ("+", "-"):
            value = _arithmetic(self.take().text, value, self.unary())
        if self.peek() in ("*", "/", "%", "?"):
            raise Punt
        return value

    def unary(self) -> _Value:
        if self.peek() == "!":
            self.take()
            return _not(self.unary())
        return self.member()

    def member(self) -> _Value:
        value = self.primary()
        while self.peek() == ".":
            self.take()
            name = self.take()
            if name.kind != "name":
                raise Punt
            value = self.method(value, name.text) if self.peek() == "(" else _select(value, name.text)
        if self.peek() in ("[", "("):
            raise Punt
        return value

    def method(self, value: _Value, name: str) -> _Value:
        self.take("(")
        word = self.take()
        self.take(")")
        if name == "matches":
            return _matches(value, word.text[2:-1] if _is_raw(word) else _string(word))
        argument = _string(word)
        test = _TESTS.get(name)
        if test is None:
            raise Punt
        return _text_test(value, argument, test)

    def primary(self) -> _Value:
        word = self.take()
        if word.text == "(" and word.kind == "mark":
            value = self.either()
            self.take(")")
            return value
        if word.text == "[" and word.kind == "mark":
            return self.items()
        if word.kind == "string":
            return _constant(_string(word))
        if word.kind == "number":
            return _constant(_number(word.text))
        if word.text in ("true", "false"):
            return _constant(word.text == "true")
        if word.kind == "name" and word.text in _ROOTS:
            return _variable(word.text)
        raise Punt

    def items(self) -> _Value:
        found: list[Any] = []
        while self.peek() != "]":
            word = self.take()
            if word.kind == "string":
                found.append(_string(word))
            elif word.kind == "number":
                found.append(_number(word.text))
            else:
                raise Punt
            if self.peek() != "]":
                self.take(",")
        self.take("]")
        return _constant(found)


_ROOTS = frozenset({"tool", "args", "agent", "mission", "spend"})


def _string(word: Token) -> str:
    """The text of a plain literal; anything with an escape or a prefix is left to the library."""
    text = word.text
    if word.kind != "string" or text[0] not in "'\"" or "\\" in text or text[:3] in _LONG:
        raise Punt
    return text[1:-1]


def _is_raw(word: Token) -> bool:
    return word.kind == "string" and word.text[0] in "rR" and word.text[1] in "'\"" and word.text[1:4] not in _LONG


_LONG = ('"""', "'''")


def _number(text: str) -> int | float:
    if re.fullmatch(r"[0-9]{1,15}", text):
        return int(text)
    if re.fullmatch(r"[0-9]{1,15}\.[0-9]{1,15}", text):
        return float(text)
    raise Punt


def _constant(value: Any) -> _Value:
    return lambda variables: value


def _variable(name: str) -> _Value:
    return lambda variables: variables[name]


def _select(value: _Value, name: str) -> _Value:
    def select(variables: Mapping[str, Any]) -> Any:
        try:
            return value(variables)[name]
        except (KeyError, TypeError, IndexError):
            raise Punt from None

    return select


def _any(parts: list[_Value]) -> _Value:
    def either(variables: Mapping[str, Any]) -> bool:
        for part in parts:
            found = part(variables)
            if found is True:
                return True
            if found is not False:
                raise Punt
        return False

    return either


def _all(parts: list[_Value]) -> _Value:
    def both(variables: Mapping[str, Any]) -> bool:
        for part in parts:
            found = part(variables)
            if found is False:
                return False
            if found is not True:
                raise Punt
        return True

    return both


def _not(value: _Value) -> _Value:
    def negate(variables: Mapping[str, Any]) -> bool:
        found = value(variables)
        if found is True:
            return False
        if found is False:
            return True
        raise Punt

    return negate


_SAFE_INT = 2**53
_SCALARS = (str, int, float)


def _comparable(left: Any, right: Any) -> bool:
    """Both texts, both whole numbers, or both fractions: the library converts between them, or refuses, by rules of
    its own. Whole numbers beyond what a float holds are left to it too."""
    kind = type(left)
    if kind is not type(right) or kind not in _SCALARS:
        return False
    return kind is not int or (-_SAFE_INT < left < _SAFE_INT and -_SAFE_INT < right < _SAFE_INT)


def _comparison(test: Callable[[Any, Any], bool]) -> Callable[[_Value, _Value], _Value]:
    def build(left: _Value, right: _Value) -> _Value:
        def compare(variables: Mapping[str, Any]) -> bool:
            a, b = left(variables), right(variables)
            if not _comparable(a, b):
                raise Punt
            return test(a, b)

        return compare

    return build


_COMPARE: dict[str, Callable[[_Value, _Value], _Value]] = {
    "==": _comparison(lambda a, b: bool(a == b)),
    "!=": _comparison(lambda a, b: bool(a != b)),
    "<": _comparison(lambda a, b: bool(a < b)),
    "<=": _comparison(lambda a, b: bool(a <= b)),
    ">": _comparison(lambda a, b: bool(a > b)),
    ">=": _comparison(lambda a, b: bool(a >= b)),
}


def _in(left: _Value, right: _Value) -> _Value:
    def contains(variables: Mapping[str, Any]) -> bool:
        item, group = left(variables), right(variables)
        if type(item) is not str or not isinstance(group, dict | list | tuple):
            raise Punt
        return any(type(other) is str and other == item for other in group)

    return contains


def _arithmetic(operator: str, left: _Value, right: _Value) -> _Value:
    def reckon(variables: Mapping[str, Any]) -> Any:
        a, b = left(variables), right(variables)
        if not _comparable(a, b) or type(a) is str:
            raise Punt
        return a + b if operator == "+" else a - b

    return reckon


_TESTS: dict[str, Callable[[str, str], bool]] = {
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": str.__contains__,
}


def _text_test(value: _Value, argument: str, test: Callable[[str, str], bool]) -> _Value:
    def ask(variables: Mapping[str, Any]) -> bool:
        text = value(variables)
        if type(text) is not str:
            raise Punt
        return test(text, argument)

    return ask


def _matches(value: _Value, pattern: str) -> _Value:
    """Patterns of plain text and ``.*`` only, tried piece by piece: linear, unlike the patterns of Python."""
    first, last = pattern.startswith("^"), pattern.endswith("$") and not pattern.endswith("\\$")
    pieces = [""]
    inner = pattern[first : len(pattern) - last]
    at = 0
    while at < len(inner):
        match = _PIECE.match(inner, at)
        if match is None:
            raise Punt
        at = match.end()
        if match["gap"]:
            pieces.append("")
        else:
            pieces[-1] += match["plain"] or match["escaped"] or match["only"]

    def search(variables: Mapping[str, Any]) -> bool:
        text = value(variables)
        if type(text) is not str or "\n" in text:
            raise Punt
        return _pieces_in(text, pieces, first, last)

    return search


_PIECE = re.compile(
    r"(?P<gap>\.\*)(?![?+*{])|(?P<plain>[A-Za-z0-9_/ :@,=-])(?![?+*{])"
    r"|\\(?P<escaped>[.+*?()|\[\]{}^$-])(?![?+*{])|\[(?P<only>[.+*?()|{}$])\](?![?+*{])"
)
"""What a pattern may be made of here: any characters, or one that is written out, escaped or alone in brackets."""


def _pieces_in(text: str, pieces: list[str], first: bool, last: bool) -> bool:
    at = 0
    end = len(text)
    middle = list(pieces)
    if first:
        head = middle.pop(0)
        if not text.startswith(head):
            return False
        at = len(head)
        if not middle:
            return at == end or not last
    if last:
        tail = middle.pop()
        if not text.endswith(tail) or end - len(tail) < at:
            return False
        end -= len(tail)
        if not first and not middle:
            return True
    for piece in middle:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True
