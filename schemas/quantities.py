"""Durations, money, times and dates as people write them, in canonical forms: "60m" and "1h" are the same spec."""

from __future__ import annotations

import functools
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

SCHEMA_TYPE = "x-remit-type"
"""Keyword in a model's schema that names one of these types for ``explain``; the schemas for editors leave it out."""

DURATION_PATTERN = r"^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+(\.[0-9]{1,3})?s)?([0-9]+ms)?$"
# Every spec holds the same few durations, so both directions are cached; long texts never get that far.
_LONGEST_TEXT = 64
_DURATION = re.compile(
    r"(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m(?!s))?"
    r"(?:([0-9]+)(?:\.([0-9]{1,3}))?s)?(?:([0-9]+)ms)?"
)
_MAX_DURATION_DAYS = 3650
_DAY_MS = 86_400_000
_MICROS = Decimal(1_000_000)


def parse_duration(value: object) -> timedelta:
    """``90s``, ``15m``, ``1h30m``, ``7d``, ``750ms`` -> timedelta. Raises ValueError that says what is expected."""
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError("a duration is a text such as 90s, 15m or 1h30m")
    if not value or len(value) > _LONGEST_TEXT:
        raise ValueError("not a duration: write 90s, 15m, 1h30m or 7d")
    return _parse_duration_text(value)


@functools.lru_cache(maxsize=4096)
def _parse_duration_text(value: str) -> timedelta:
    match = _DURATION.fullmatch(value)
    if match is None:
        raise ValueError("not a duration: write 90s, 15m, 1h30m or 7d")
    days, hours, minutes, seconds, fraction, millis = match.groups()
    total_ms = (
        int(days or 0) * _DAY_MS
        + int(hours or 0) * 3_600_000
        + int(minutes or 0) * 60_000
        + int(seconds or 0) * 1000
        + int((fraction or "").ljust(3, "0"))
        + int(millis or 0)
    )
    if total_ms > _MAX_DURATION_DAYS * _DAY_MS:
        raise ValueError(f"a duration is at most {_MAX_DURATION_DAYS}d")
    return timedelta(milliseconds=total_ms)


def parse_positive_duration(value: object) -> timedelta:
    """As parse_duration, without 0s."""
    result = parse_duration(value)
    if result <= timedelta(0):
        raise ValueError("a duration longer than 0s is needed here")
    return result


@functools.lru_cache(maxsize=4096)
def format_duration(value: timedelta) -> str:
    """The canonical text: hours, minutes, seconds without zero parts (``1h30m``, ``0s``, ``750ms``)."""
    total_ms = round(value / timedelta(milliseconds=1))
    seconds, millis = divmod(total_ms, 1000)
    hours, rest = divmod(seconds, 3600)
    minutes, secs = divmod(rest, 60)
    parts = [f"{n}{unit}" for n, unit in ((hours, "h"), (minutes, "m"), (secs, "s"), (millis, "ms")) if n]
    return "".join(parts) or "0s"


_DURATION_SCHEMA = WithJsonSchema(
    {
        "type": "string",
        "minLength": 2,
        "maxLength": _LONGEST_TEXT,
        "pattern": DURATION_PATTERN,
        "examples": ["90s", "15m", "111h"],
        SCHEMA_TYPE: "duration",
    }
)
Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    _DURATION_SCHEMA,
]
"""A length of time, written ``90s``, ``15m``, ``1h30m``, ``7d``; kept to the millisecond."""
PositiveDuration = Annotated[
    timedelta,
    BeforeValidator(parse_positive_duration),
    PlainSerializer(format_duration, return_type=str),
    _DURATION_SCHEMA,
]
"""A Duration longer than 0s."""

MONEY_PATTERN = r"^[0-9]{1,10}(\.[0-9]{1,6})?$"
_MONEY = re.compile(MONEY_PATTERN)
_MAX_MONEY = 10**9


def parse_money(value: object) -> Decimal:
    """A non-negative amount in USD, to a millionth. Raises ValueError that says what is expected."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError("an amount in USD is a number or a decimal text such as 2 or '0.25'")
    if isinstance(value, str) and _MONEY.fullmatch(value) is None:
        raise ValueError("not an amount in USD: write 2 or '0.25', with at most six decimals")
    # Compared before it becomes a text: an int of a million digits is refused without being written out.
    if isinstance(value, int) and not 0 <= value <= _MAX_MONEY:
        raise ValueError(f"an amount in USD lies between 0 and {_MAX_MONEY}")
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise ValueError("not an amount in USD: write 2 or '0.25'") from None
    if not amount.is_finite() or amount < 0 or amount > _MAX_MONEY:
        raise ValueError(f"an amount in USD lies between 0 and {_MAX_MONEY}")
    if amount != amount.quantize(Decimal("0.000001")):
        raise ValueError("an amount in USD has at most six decimals")
    return abs(amount)


def format_money(value: Decimal) -> str:
    """Canonical text without exponent or trailing zeros: ``2``, ``0.25``."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


Money = Annotated[
    Decimal,
    BeforeValidator(parse_money),
    PlainSerializer(format_money, return_type=str),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": _MAX_MONEY},
                {"type": "string", "pattern": MONEY_PATTERN},
            ],
            SCHEMA_TYPE: "money",
        }
    ),
]
"""An amount in USD, to a millionth; a decimal text on the wire."""


def to_micros(amount: Decimal) -> int:
    """USD -> whole millionths, the unit of the ledger."""
    return int(amount * _MICROS)


def from_micros(micros: int) -> Decimal:
    """Whole millionths -> USD."""
    return Decimal(micros) / _MICROS


def format_time(value: datetime) -> str:
    """RFC 3339 in UTC with milliseconds: ``2026-11-21T02:17:30.120Z``."""
    return (value if value.tzinfo is UTC else value.astimezone(UTC)).isoformat(timespec="milliseconds")[:-6] + "Z"


def parse_time(value: object) -> Any:
    """RFC 3339 text -> aware datetime in UTC. Raises ValueError when it names no zone."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("not a time: write 2026-11-21T09:00:00Z") from None
    if not isinstance(value, datetime):
        raise ValueError("a time is a text such as 2026-11-21T09:00:00Z")
    if value.tzinfo is None:
        raise ValueError("a time names its zone: end it with Z or an offset such as +01:00")
    if value.tzinfo is UTC:
        return value
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time lies between the years 1 and 9999") from None


Time = Annotated[
    datetime,
    BeforeValidator(parse_time),
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", SCHEMA_TYPE: "time"}),
]
"""A moment: aware, UTC, RFC 3339 with milliseconds on the wire."""

DATE_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"


def parse_date(value: object) -> date:
    """``2026-11-21`` -> date. Raises ValueError that says what is expected."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if not isinstance(value, str) or re.fullmatch(DATE_PATTERN, value) is None:
        raise ValueError("a date is a text such as 2026-11-21")
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError("no such day in the calendar: write a date such as 2026-11-21") from None


Date = Annotated[
    date,
    BeforeValidator(parse_date),
    PlainSerializer(date.isoformat, return_type=str),
    WithJsonSchema({"type": "string", "pattern": DATE_PATTERN, SCHEMA_TYPE: "date"}),
]
"""A day of the calendar, without a time zone."""
