"""Texts as pages show them. Whatever an agent wrote is hostile: it is escaped by the templates, and what could mislead
an eye (controls, bidirectional marks, characters of no width) is shown as an escape here."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from schemas.quantities import parse_time

LONGEST = 400
"""Characters of a value in a line or a cell."""
LONGEST_BLOCK = 20_000
"""Characters of a text in a block of its own."""
LONGEST_LINE = 2_000
"""Characters of one line of such a block."""
LINES = 500
"""Lines of a log that are shown."""
_PLAIN = re.compile(r"[\n\t\x20-\x7e]*")
_HIDDEN = frozenset({"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"})
_BLANK = frozenset({"\u115f", "\u1160", "\u3164", "\uffa0", "\u2800"})
"""Letters that leave no mark on the page."""
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def visible(text: str) -> str:
    """``text`` with everything that has no shape of its own as an escape; line ends and tabs stay."""
    if _PLAIN.fullmatch(text):
        return text
    return "".join(_shape(c) for c in text)


def _shape(char: str) -> str:
    if char in "\n\t" or (unicodedata.category(char) not in _HIDDEN and char not in _BLANK):
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def line(text: object, longest: int = LONGEST) -> str:
    """One line of at most ``longest`` characters, harmless to look at."""
    whole = str(text)
    flat = visible(whole[: longest + 1]).replace("\n", " ").replace("\t", " ")
    return flat if len(flat) <= longest else flat[: longest - 1] + "…"


def block(text: str, longest: int = LONGEST_BLOCK) -> tuple[str, int]:
    """A text of several lines, and how many characters of it are not shown. Very long lines are cut."""
    kept = text[:longest]
    lines = [
        row if len(row) <= LONGEST_LINE else f"{row[:LONGEST_LINE]}… ({len(row) - LONGEST_LINE} more characters)"
        for row in kept.split("\n")
    ]
    return visible("\n".join(lines)), max(0, len(text) - longest)


def words(name: str) -> str:
    """``NeedsApproval`` -> ``needs approval``."""
    return _WORDS.sub(" ", name).lower()


def sentence(name: str) -> str:
    """``NeedsApproval`` -> ``Needs approval``."""
    spoken = words(name)
    return spoken[:1].upper() + spoken[1:]


def who(subject: str) -> str:
    """``agent:default/tagger`` -> ``tagger (agent)``; a person is called by the name alone."""
    kind, colon, name = subject.partition(":")
    if not colon:
        return subject
    short = name.rpartition("/")[2] if kind == "agent" else name
    return short if kind == "user" else f"{short} ({kind})"


def moment(value: object) -> datetime | None:
    """A time of the wire form, None for none or nonsense."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not value:
        return None
    try:
        found: datetime = parse_time(value)
    except ValueError:
        return None
    return found


def span(seconds: float) -> str:
    """``42s``, ``12m``, ``3h 20m``, ``4d``."""
    whole = int(abs(seconds))
    if whole < 60:
        return f"{whole}s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes}m"
    hours, rest = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h {rest}m" if rest and hours < 10 else f"{hours}h"
    return f"{hours // 24}d"


def ago(at: datetime, now: datetime) -> str:
    """``3m ago``, ``in 2h``. The script of the page says it the same way as time goes by."""
    seconds = (now - at).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{span(seconds)} ago" if seconds > 0 else f"in {span(seconds)}"


def stamp(at: datetime) -> str:
    """The exact moment, UTC."""
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(at: datetime) -> str:
    """For the ``datetime`` attribute: to the second, UTC."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def decimal(value: object) -> Decimal | None:
    """An amount of the wire form, None for none or nonsense."""
    if value is None or isinstance(value, bool):
        return None
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def money(value: object) -> str:
    """``$3.20``; cents are enough, but what is not nothing never looks like it. ``-`` when nobody knows."""
    amount = decimal(value)
    if amount is None:
        return "-"
    if amount and abs(amount) < Decimal("0.01"):
        return f"${amount.quantize(Decimal('0.0001')):f}" if abs(amount) >= Decimal("0.0001") else "<$0.0001"
    return f"${amount:,.2f}"


def micros(value: int) -> str:
    """Millionths of a USD as ``money``."""
    return money(Decimal(value) / 1_000_000)


def number(value: object) -> str:
    """``12,345``; ``-`` for none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-"
    return f"{value:,.0f}" if isinstance(value, int) or value == int(value) else f"{value:,.2f}"


def duration(begin: datetime | None, end: datetime | None) -> str:
    """How long something took; ``-`` while that is open."""
    return "-" if begin is None or end is None else span((end - begin) / timedelta(seconds=1))


def plain(value: Any) -> str:
    """A value of a spec in one line."""
    import json

    if value is None or value == "":
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False)


def yaml_text(value: Any) -> str:
    """YAML for people: block style, long texts as blocks. What could mislead an eye is escaped by whoever shows it."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes texts of several lines as blocks."""

    def text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
        style = "|" if "\n" in data and not data.startswith((" ", "\n")) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    Dumper.add_representer(str, text)
    return str(
        yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=False)
    ).rstrip("\n")
