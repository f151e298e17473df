"""Takes credentials out of texts before they are kept or shown. Pure, standard library only: the supervisor uses it.

Two things are looked for. *Known values*: the secrets that were handed out, as they are and as JSON, URLs, base64 and
hexadecimal write them. *Shapes*: what a credential of a stranger looks like, such as the prefixes of well-known tokens,
keys in armour, passwords in URLs, and values behind a name such as ``password``. The level says which shapes count
(``schemas.policy.Redaction``); known values always count.

Every search is linear in the text, whatever the text is: agents write it. Quotes and backslashes around a value stay,
so that JSON is JSON afterwards. Doing it again changes nothing.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

HIDDEN: Final = "[redacted]"
OFF: Final = "Off"
STANDARD: Final = "Standard"
STRICT: Final = "Strict"

SHORTEST: Final = 8
"""Characters of a known value that is looked for. A shorter one would be found in every other word."""
_PLAIN = re.compile(r"[A-Za-z_./: -]{1,15}|[0-9_./:TZ+-]{1,11}")
"""Words, names and numbers that stand in many texts: taking them out would break more than it hides."""
_SHORTEST_CODED: Final = 8
_SHORTEST_SHAPE: Final = len("://a@")
"""Characters of the shortest text that a shape is found in, where the level is not STRICT."""
_SHORTEST_LINE: Final = 20
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")

Span = tuple[int, int]

_ARMOUR_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_ARMOUR_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_ARMOUR_BODY = re.compile(r"(?:[A-Za-z0-9+/=\s:,.-]|\\[nrt])*+")

# Each alternative begins with a literal and fails, if at all, within a few dozen characters.
_PREFIXED = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"gh[pousr]_[A-Za-z0-9]{20,}+|github_pat_[A-Za-z0-9_]{20,}+|gl(?:pat|rt|dt|cbt|ptt|soat)-[A-Za-z0-9_.-]{16,}+"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}+|xapp-[A-Za-z0-9-]{10,}+|[sr]k-[A-Za-z0-9_-]{16,}+"
    r"|[srp]k_(?:live|test)_[A-Za-z0-9]{10,}+|whsec_[A-Za-z0-9+/=]{16,}+"
    r"|(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}(?![0-9A-Za-z])|AIza[0-9A-Za-z_-]{30,}+|ya29\.[0-9A-Za-z_-]{20,}+"
    r"|hv[sbr]\.[A-Za-z0-9_-]{20,}+|npm_[A-Za-z0-9]{30,}+|pypi-[A-Za-z0-9_-]{40,}+|dop_v1_[a-f0-9]{40,}+"
    r"|SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,}+|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{20,}+|hf_[A-Za-z0-9]{30,}+"
    r"|AGE-SECRET-KEY-1[0-9A-Z]{40,}+|rmt_[a-z]{1,20}_[A-Za-z0-9_]{20,}+|[0-9]{8,10}:AA[A-Za-z0-9_-]{30,}+"
    r"|hooks\.slack\.com/services/[A-Za-z0-9/_-]{20,}+)"
)
_JWT_BEGIN = re.compile(r"(?<![A-Za-z0-9_-])eyJ")
_WORD = re.compile(r"[A-Za-z0-9_-]*+")
_URL_USER = re.compile(r"(?<=://)[^/@\s\"'\\<>]++(?=@)")
_BEARER = re.compile(r"\b(?:bearer|basic|token)[ \t]{1,8}([A-Za-z0-9._~+/=-]{8,}+)", re.IGNORECASE | re.ASCII)
_COOKIE = re.compile(r"\b(?:set-)?cookie:[ \t]{0,8}([^\s\"'\\][^\r\n\"'\\]*+)", re.IGNORECASE | re.ASCII)
_NAMED = re.compile(
    r"(?:p(?:ass(?:word|wd|phrase|code)|wd|rivate[_-]?key)|s(?:ecret|igning[_-]?key|ig)|token|credential"
    r"|a(?:pi[_-]?key|ccess[_-]?key|ccount[_-]?key|uthorization)|client[_-]?key)s?"
    r"(?:\\{0,8}[\"'])?[ \t]{0,16}(?:=>?|:=?)[ \t]{0,16}"
)
"""On text in lower case: ten times as fast as without regard to case."""
_OPENING = re.compile(r"(\\{0,8})([\"'])")
_QUOTED = {
    '"': re.compile(r'(?:[^"\\\r\n]|\\[^\r\n])++'),
    "'": re.compile(r"(?:[^'\\\r\n]|\\[^\r\n])++"),
}
_WITHIN_QUOTED = re.compile(r"[^\"'\\\r\n]++")
_BARE = re.compile(r"[^\s\"'\\,;&(){}\[\]<>$*`|]{3,}+", re.ASCII)
_LITERAL = re.compile(r"(?:true|false|null|none|yes|no|-?[0-9][0-9.,_eE+-]*|bearer|basic|token)", re.IGNORECASE)

_MAIL = re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}+@(?:[A-Za-z0-9-]{1,63}+\.){1,8}[A-Za-z]{2,24}+")
_DIGITS = re.compile(r"(?<![\w.+-])[0-9](?:[ -]?[0-9]){11,18}+(?![\w-])", re.ASCII)
_PHONE = re.compile(r"(?<![\w.+-])\+[0-9](?:[ ().-]{0,2}[0-9]){7,14}+(?![\w-])", re.ASCII)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{1,4}){3,8}+(?![A-Za-z0-9])")


def forms(value: str) -> set[str]:
    """How a secret may be written. Empty for one that is too short or too plain to be looked for. A secret of several
    lines is looked for line by line too, where a line is long and one word."""
    found: set[str] = set()
    lines = value.splitlines() if "\n" in value else []
    for text in (value, value.strip(), *(_telling(line.strip()) for line in lines)):
        if len(text) < SHORTEST or _PLAIN.fullmatch(text) is not None:
            continue
        found |= {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
        data = text.encode("utf-8", "surrogatepass")
        found |= {_percent(data, "%{:02X}"), _percent(data, "%{:02x}"), _percent(data, "%{:02X}").replace("%20", "+")}
        found.add(_percent(data, "%{:02X}").replace("%2F", "/"))
        if len(data) >= _SHORTEST_CODED:
            found |= {data.hex(), data.hex().upper(), *_base64_cores(data)}
    return found


def _telling(line: str) -> str:
    return line if len(line) >= _SHORTEST_LINE and " " not in line and not line.startswith("-----") else ""


def _percent(data: bytes, style: str) -> str:
    return "".join(chr(b) if chr(b) in _UNRESERVED else style.format(b) for b in data)


def _base64_cores(data: bytes) -> Iterator[str]:
    """What base64 makes of ``data`` wherever it stands in a longer text: the characters that hold nothing else, for
    each of the three ways it may be aligned."""
    for shift in range(3):
        start = -(-8 * shift // 6)
        whole = 8 * (shift + len(data)) // 6
        for code in (base64.b64encode, base64.urlsafe_b64encode):
            yield code(b"\0" * shift + data).decode("ascii")[start:whole]


class Redactor:
    """Takes ``values`` and the shapes of ``level`` out of texts. Immutable, and safe to use from several threads."""

    __slots__ = ("_needles", "level")

    def __init__(self, values: Iterable[str] = (), level: str = STANDARD, *, octets: bool = False) -> None:
        """``octets``: texts are bytes, each decoded as one character (Latin-1), and so are the values."""
        found = {form for value in values for form in forms(value)}
        if octets:
            found = {form.encode("utf-8", "surrogatepass").decode("latin-1") for form in found}
        self._needles = tuple(sorted(found, key=lambda form: (-len(form), form)))
        self.level = str(level)

    def __repr__(self) -> str:
        return f"Redactor({len(self._needles)} forms, {self.level})"

    @property
    def longest(self) -> int:
        """Characters of the longest form of a known value."""
        return len(self._needles[0]) if self._needles else 0

    @property
    def over_lines(self) -> tuple[str, ...]:
        """Forms of known values that go over several lines."""
        return tuple(needle for needle in self._needles if "\n" in needle)

    def text(self, text: str) -> str:
        """``text`` with HIDDEN in place of every credential."""
        return replaced(text, self.spans(text))

    def json(self, value: Any) -> Any:
        """The same for every text in a JSON value, and for what stands under a name such as ``password``; keys stay.
        The value itself is returned when there is nothing to hide."""
        return self._json(value, "")

    def knows(self, text: str) -> bool:
        """Whether a known value stands in ``text``."""
        return any(needle in text for needle in self._needles)

    def known(self, value: Any) -> Any:
        """A JSON value without known values, in keys too; shapes are left alone."""
        if isinstance(value, str):
            return replaced(value, _merged(list(self._known(value)))) if self.knows(value) else value
        if isinstance(value, dict):
            return {self.known(key) if isinstance(key, str) else key: self.known(v) for key, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.known(inner) for inner in value]
        return value

    def spans(self, text: str) -> list[Span]:
        """Where credentials stand in ``text``: in order, apart from each other."""
        found = list(self._known(text))
        if self.level != OFF and len(text) >= _SHORTEST_SHAPE:
            found += _armour(text)
            found += [match.span() for match in _PREFIXED.finditer(text)]
            if "eyJ" in text:
                found += _jwts(text)
            if "://" in text:
                found += [m.span() for m in _URL_USER.finditer(text) if m[0] != HIDDEN]
            found += [match.span(1) for match in _BEARER.finditer(text)]
            found += [match.span(1) for match in _COOKIE.finditer(text) if match[1] != HIDDEN]
            found += _named(text)
        if self.level == STRICT:
            found += _personal(text)
        return _merged(found)

    def _known(self, text: str) -> Iterator[Span]:
        for needle in self._needles:
            at = text.find(needle)
            while at >= 0:
                yield at, at + len(needle)
                at = text.find(needle, at + len(needle))

    def _json(self, value: Any, name: str) -> Any:
        if isinstance(value, str):
            if name and self.level != OFF and _tells(name) and value and value != HIDDEN:
                return HIDDEN
            return self.text(value)
        if isinstance(value, dict):
            return {key: self._json(inner, key if isinstance(key, str) else "") for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._json(inner, name) for inner in value]
        return value


def replaced(text: str, spans: Iterable[Span]) -> str:
    """``text`` with HIDDEN in place of each span."""
    parts, done = [], 0
    for start, end in spans:
        parts += [text[done:start], HIDDEN]
        done = end
    return "".join([*parts, text[done:]]) if done else text


def _merged(spans: list[Span]) -> list[Span]:
    spans.sort()
    merged: list[Span] = []
    for start, end in spans:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif start < end:
            merged.append((start, end))
    return merged


def _armour(text: str) -> Iterator[Span]:
    """Private keys: to the line that ends them, or as far as it looks like one."""
    at, closed = 0, True
    while (begin := _ARMOUR_BEGIN.search(text, at)) is not None:
        end = _ARMOUR_END.search(text, begin.end()) if closed else None
        closed = end is not None
        at = end.end() if end is not None else begin.end() + len(_matched(_ARMOUR_BODY, text, begin.end()))
        yield begin.start(), at


def _jwts(text: str) -> Iterator[Span]:
    at = 0
    while (begin := _JWT_BEGIN.search(text, at)) is not None:
        # A header that is followed by no dot fails for every place in it, so that none is looked at again.
        head = begin.start() + len(_matched(_WORD, text, begin.start()))
        at = head
        if head - begin.start() < 11 or text[head : head + 1] != ".":
            continue
        body = head + 1 + len(_matched(_WORD, text, head + 1))
        if body - head < 9:
            continue
        if text[body : body + 1] == ".":
            body = body + 1 + len(_matched(_WORD, text, body + 1))
        at = body
        yield begin.start(), body


def _named(text: str) -> Iterator[Span]:
    """Values behind a telling name. Numbers and words such as ``true`` are none: ``tokens: 120`` stays."""
    done = 0
    # The one letter that becomes two in lower case would shift every place behind it.
    for match in _NAMED.finditer(text.replace("\u0130", "i").lower()):
        at = match.end()
        if at <= done:
            continue
        if match[0][:3] in ("sig", "pwd") and text[max(match.start() - 1, 0) : match.start()].isalpha():
            continue
        opening = _OPENING.match(text, at)
        if opening is not None:
            at = opening.end()
            value = _matched(_WITHIN_QUOTED if opening[1] else _QUOTED[opening[2]], text, at)
            found = bool(value) and value != HIDDEN
        else:
            value = _matched(_BARE, text, at)
            found = bool(value) and _LITERAL.fullmatch(value) is None and not _is_prose(match[0], value, text, at)
        # Names within a value are part of it, and a long value is looked at once.
        done = at + len(value)
        if found:
            yield at, done


def _is_prose(name: str, value: str, text: str, at: int) -> bool:
    """Whether a sentence goes on: ``spec.token: the engine has no ...`` gives nothing away."""
    if not name.endswith(" ") or len(value) > 15 or not value.isalpha():
        return False
    rest = text[at + len(value) : at + len(value) + 2]
    return len(rest) == 2 and rest[0] == " " and rest[1].isalpha()


def _matched(pattern: re.Pattern[str], text: str, at: int) -> str:
    match = pattern.match(text, at)
    return match[0] if match is not None else ""


_TELLING_NAME = re.compile(
    r"(?:^|[^a-z])(?:pass(?:word|wd|phrase|code)|pwd|secret|token|api[_-]?key|access[_-]?key|account[_-]?key|"
    r"private[_-]?key|signing[_-]?key|credentials?|authorization|cookie)$",
    re.IGNORECASE,
)


def _tells(name: str) -> bool:
    """Whether a field of this name holds a credential: ``apiKey``, ``db_password``, ``Authorization``."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name[:200])
    return _TELLING_NAME.search(spaced) is not None


def _personal(text: str) -> Iterator[Span]:
    """Mail addresses, telephone numbers, numbers of accounts and cards."""
    if "@" in text:
        yield from (match.span() for match in _MAIL.finditer(text))
    yield from (match.span() for match in _PHONE.finditer(text))
    yield from (match.span() for match in _DIGITS.finditer(text) if _is_card(match[0]))
    yield from (match.span() for match in _IBAN.finditer(text) if _is_iban(match[0]))


def _is_card(text: str) -> bool:
    """Whether the last digit checks the others (Luhn)."""
    digits = [int(c) for c in text if c.isdigit()]
    doubled = [sum(divmod(2 * d, 10)) if index % 2 else d for index, d in enumerate(reversed(digits))]
    return len(digits) >= 13 and sum(doubled) % 10 == 0


def _is_iban(text: str) -> bool:
    """Whether the check digits of ISO 13616 are right."""
    plain = text.replace(" ", "")
    return 15 <= len(plain) <= 34 and int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1
