"""A part of CEL in plain Python, for speed: it answers what it is sure of and passes everything else on.

The CEL library copies the facts for each call (35 us) and compiles patterns at each use (35 us). Most conditions
compare a field with a constant. Those become one Python expression here. Wherever the library could answer differently,
with an error, or by conversion, nothing is answered and the library decides; a property test holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from decisions.policy.expression_tokens import BadExpression, Token, tokens

Native = Callable[[Mapping[str, Any]], bool | None]
"""Over the variables; None: ask the library."""


class Punt(Exception):
    """Not for this evaluator: ask the library."""


def translate(source: str) -> Native | None:
    """The expression as a function of the variables, or None when it holds something that only the library knows."""
    try:
        parser = _Parser(tokens(source))
        code = _as_bool(parser.either())
        if parser.at < len(parser.words):
            return None
    except (Punt, BadExpression):
        return None
    # What is evaluated consists of operators, of names that match an identifier and are quoted, and of constants as
    # repr() writes them: the author of a Policy has no way to put code of their own here.
    text = f"def native(v):\n try:\n  return {code}\n except failures:\n  return None"
    names = {**_HELPERS, **parser.helpers}
    exec(text, names)  # noqa: S102
    native: Native = names["native"]
    return native


class _Code(NamedTuple):
    """A Python expression over ``v``. ``kind`` is bool, constant, or any for what only the call shows."""

    text: str
    kind: str
    value: Any = None


class _Parser:
    """Recursive descent over bounded words."""

    def __init__(self, words: list[Token]) -> None:
        self.words = words
        self.at = 0
        self.helpers: dict[str, Any] = {}
        self._names = 0

    def name(self) -> str:
        self._names += 1
        return f"t{self._names}"

    def peek(self) -> str:
        return self.words[self.at].text if self.at < len(self.words) else ""

    def take(self, text: str = "") -> Token:
        if self.at >= len(self.words) or (text and self.words[self.at].text != text):
            raise Punt
        self.at += 1
        return self.words[self.at - 1]

    def either(self) -> _Code:
        return self.joined(self.both, "||", " or ")

    def both(self) -> _Code:
        return self.joined(self.relation, "&&", " and ")

    def joined(self, part: Callable[[], _Code], mark: str, word: str) -> _Code:
        parts = [part()]
        while self.peek() == mark:
            self.take()
            parts.append(part())
        if len(parts) == 1:
            return parts[0]
        return _Code("(" + word.join(_as_bool(code) for code in parts) + ")", "bool")

    def relation(self) -> _Code:
        left = self.sum()
        operator = self.peek()
        if operator not in _COMPARE and operator != "in":
            return left
        self.take()
        right = self.sum()
        if self.peek() in _COMPARE or self.peek() == "in":
            raise Punt
        if operator == "in":
            return self.within(left, right)
        if right.kind == "constant" and left.kind == "any":
            return self.compared(left, operator, right)
        if left.kind == "constant" and right.kind == "any":
            return self.compared(right, _MIRROR.get(operator, operator), left)
        if left.kind == right.kind == "any":
            a, b = self.name(), self.name()
            text = f"({a} {operator} {b} if alike({a} := {left.text}, {b} := {right.text}) else punt())"
            return _Code(text, "bool")
        raise Punt

    def compared(self, value: _Code, operator: str, constant: _Code) -> _Code:
        a = self.name()
        kind = type(constant.value)
        if kind is str:
            test = f"type({a} := {value.text}) is str"
        elif kind in (int, float):
            test = f"type({a} := {value.text}) is int or type({a}) is float"
        else:
            raise Punt
        return _Code(f"({a} {operator} {constant.text} if {test} else punt())", "bool")

    def within(self, item: _Code, group: _Code) -> _Code:
        a = self.name()
        if group.kind == "constant" and isinstance(group.value, tuple):
            if any(type(one) is not str for one in group.value):
                raise Punt
            return _Code(f"({a} in {group.text} if type({a} := {item.text}) is str else punt())", "bool")
        if group.kind != "any" or (item.kind == "constant" and type(item.value) is not str):
            raise Punt
        return _Code(f"within({item.text}, {group.text})", "bool")

    def sum(self) -> _Code:
        code = self.unary()
        while self.peek() in ("+", "-"):
            operator = self.take().text
            code = _Code(f"{_ARITHMETIC[operator]}({code.text}, {self.unary().text})", "any")
        if self.peek() in ("*", "/", "%", "?"):
            raise Punt
        return code

    def unary(self) -> _Code:
        if self.peek() == "!":
            self.take()
            return _Code(f"(not {_as_bool(self.unary())})", "bool")
        return self.member()

    def member(self) -> _Code:
        code = self.primary()
        while self.peek() == ".":
            self.take()
            name = self.take()
            if name.kind != "name" or code.kind != "any":
                raise Punt
            code = self.method(code, name.text) if self.peek() == "(" else _Code(f"{code.text}[{name.text!r}]", "any")
        if self.peek() in ("[", "("):
            raise Punt
        return code

    def method(self, value: _Code, name: str) -> _Code:
        self.take("(")
        word = self.take()
        self.take(")")
        a = self.name()
        if name == "matches":
            helper = f"m{len(self.helpers)}"
            self.helpers[helper] = _matcher(word.text[2:-1] if _is_raw(word) else _string(word))
            return _Code(f"({helper}({a}) if type({a} := {value.text}) is str else punt())", "bool")
        if name not in _TESTS:
            raise Punt
        call = _TESTS[name].format(text=a, argument=repr(_string(word)))
        return _Code(f"({call} if type({a} := {value.text}) is str else punt())", "bool")

    def primary(self) -> _Code:
        word = self.take()
        if word.text == "(" and word.kind == "mark":
            code = self.either()
            self.take(")")
            return code
        if word.text == "[" and word.kind == "mark":
            return self.items()
        if word.kind == "string":
            return _constant(_string(word))
        if word.kind == "number":
            return _constant(_number(word.text))
        if word.text in ("true", "false"):
            return _Code(str(word.text == "true"), "bool")
        if word.kind == "name" and word.text in _ROOTS:
            return _Code(f"v[{word.text!r}]", "any")
        raise Punt

    def items(self) -> _Code:
        found: list[Any] = []
        while self.peek() != "]":
            found.append(_string(self.take()))
            if self.peek() != "]":
                self.take(",")
        self.take("]")
        return _constant(tuple(found))


_ROOTS = frozenset({"tool", "args", "agent", "mission", "spend"})
_COMPARE = frozenset({"==", "!=", "<", "<=", ">", ">="})
_MIRROR = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_ARITHMETIC = {"+": "plus", "-": "minus"}
_TESTS = {
    "startsWith": "{text}.startswith({argument})",
    "endsWith": "{text}.endswith({argument})",
    "contains": "({argument} in {text})",
}
_LONG = ('"""', "'''")


def _constant(value: Any) -> _Code:
    return _Code(repr(value), "constant", value)


def _as_bool(code: _Code) -> str:
    if code.kind == "bool":
        return code.text
    if code.kind == "constant":
        raise Punt
    return f"truth({code.text})"


def _string(word: Token) -> str:
    """The text of a plain literal; anything with an escape or a prefix is left to the library."""
    text = word.text
    if word.kind != "string" or text[0] not in "'\"" or "\\" in text or text[:3] in _LONG:
        raise Punt
    return text[1:-1]


def _is_raw(word: Token) -> bool:
    return word.kind == "string" and word.text[0] in "rR" and word.text[1] in "'\"" and word.text[1:4] not in _LONG


def _number(text: str) -> int | float:
    if re.fullmatch(r"[0-9]{1,15}", text):
        return int(text)
    if re.fullmatch(r"[0-9]{1,15}\.[0-9]{1,15}", text):
        return float(text)
    raise Punt


# What the expressions call.


def _punt() -> NoReturn:
    raise Punt


def _truth(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise Punt


def _alike(left: Any, right: Any) -> bool:
    """Both texts, both whole numbers, or both fractions."""
    return type(left) is type(right) and type(left) in (str, int, float)


def _within(item: Any, group: Any) -> bool:
    if type(item) is not str or not isinstance(group, dict | list | tuple):
        raise Punt
    return any(type(other) is str and other == item for other in group)


def _plus(left: Any, right: Any) -> Any:
    return _reckoned(left, right, 1)


def _minus(left: Any, right: Any) -> Any:
    return _reckoned(left, right, -1)


def _reckoned(left: Any, right: Any, sign: int) -> Any:
    if type(left) is not type(right) or type(left) not in (int, float):
        raise Punt
    result = left + sign * right
    if type(result) is int and not -(2**63) <= result < 2**63:
        raise Punt
    return result


_HELPERS: dict[str, Any] = {
    "__builtins__": {},
    "type": type,
    "str": str,
    "int": int,
    "float": float,
    "failures": (Punt, KeyError, TypeError, IndexError),
    "punt": _punt,
    "truth": _truth,
    "alike": _alike,
    "within": _within,
    "plus": _plus,
    "minus": _minus,
}

_PIECE = re.compile(
    r"(?P<gap>\.\*)(?![?+*{])|(?P<plain>[A-Za-z0-9_/ :@,=-])(?![?+*{])"
    r"|\\(?P<escaped>[.+*?()|\[\]{}^$-])(?![?+*{])|\[(?P<only>[.+*?()|{}$])\](?![?+*{])"
)
"""What a pattern may be made of here: any characters, or one that is written out, escaped, or alone in brackets."""


def _matcher(pattern: str) -> Callable[[str], bool]:
    """A search for a pattern of plain text and ``.*``, piece by piece: linear, unlike the patterns of Python."""
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

    def search(text: str) -> bool:
        if "\n" in text:
            raise Punt
        return _pieces_in(text, pieces, first, last)

    return search


def _pieces_in(text: str, pieces: list[str], first: bool, last: bool) -> bool:
    at = 0
    end = len(text)
    start, stop = 0, len(pieces)
    if first:
        if not text.startswith(pieces[0]):
            return False
        at, start = len(pieces[0]), 1
        if stop == 1:
            return at == end or not last
    if last:
        tail = pieces[-1]
        if not text.endswith(tail) or end - len(tail) < at:
            return False
        end -= len(tail)
        stop -= 1
    for piece in pieces[start:stop]:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True
