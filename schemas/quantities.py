"""Durations and money as people write them. Canonical forms, so that "60m" and "1h" are the same spec."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

DURATION_PATTERN = r"^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+(\.[0-9]{1,3})?s)?([0-9]+ms)?$"
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d{1,3})?)s)?(?:(\d+)ms)?")
_MAX_DURATION = timedelta(days=3650)
_MICROS = Decimal(1_000_000)


def parse_duration(value: object) -> timedelta:
    """``90s``, ``15m``, ``1h30m``, ``7d``, ``750ms`` -> timedelta. Raises ValueError that says what is expected."""
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError("a duration is a text such as 90s, 15m or 1h30m")
    match = _DURATION.fullmatch(value)
    if not value or match is None:
        raise ValueError("not a duration: write 90s, 15m, 1h30m or 7d")
    days, hours, minutes, seconds, millis = match.groups()
    result = timedelta(
        days=int(days or 0),
        hours=int(hours or 0),
        minutes=int(minutes or 0),
        seconds=float(seconds or 0),
        milliseconds=int(millis or 0),
    )
    if result > _MAX_DURATION:
        raise ValueError("a duration is at most 3650d")
    return result


def format_duration(value: timedelta) -> str:
    """The canonical text: hours, minutes, seconds without zero parts (``1h30m``, ``0s``, ``750ms``)."""
    total_ms = round(value / timedelta(milliseconds=1))
    seconds, millis = divmod(total_ms, 1000)
    hours, rest = divmod(seconds, 3600)
    minutes, secs = divmod(rest, 60)
    parts = [f"{n}{unit}" for n, unit in ((hours, "h"), (minutes, "m"), (secs, "s"), (millis, "ms")) if n]
    return "".join(parts) or "0s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "examples": ["90s", "15m", "111h"]}),
]
"""A length of time, written ``90s``, ``15m``, ``1h30m``, ``7d``; kept to the millisecond."""


def parse_money(value: object) -> Decimal:
    """A non-negative amount in USD, to a millionth. Raises ValueError that says what is expected."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError("an amount in USD is a number or a decimal text such as 2 or '0.25'")
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise ValueError("not an amount in USD: write 2 or '0.25'") from None
    if not amount.is_finite() or amount < 0 or amount > Decimal(10) ** 9:
        raise ValueError("an amount in USD lies between 0 and 1000000000")
    if amount != amount.quantize(Decimal("0.000001")):
        raise ValueError("an amount in USD has at most six decimals")
    return amount


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
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,6})?$"},
            ]
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
    utc = value.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"


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
    return value.astimezone(UTC)


Time = Annotated[
    datetime,
    BeforeValidator(parse_time),
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A moment: aware, UTC, RFC 3339 with milliseconds on the wire."""
