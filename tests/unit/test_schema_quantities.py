"""Durations, money, times and dates: what is accepted, and the one form each is kept in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from schemas.base import Line, Name, Subject, is_name
from schemas.cron import expand, require_cron
from schemas.quantities import (
    Date,
    Duration,
    Money,
    PositiveDuration,
    Time,
    format_duration,
    format_money,
    format_time,
    from_micros,
    parse_duration,
    parse_money,
    to_micros,
)
from schemas.time_zone import require_time_zone


def wire(type_: Any, value: object) -> Any:
    adapter = TypeAdapter(type_)
    return adapter.dump_python(adapter.validate_python(value), mode="json")


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("60m", "1h"),
        ("3600s", "1h"),
        ("90s", "1m30s"),
        ("1h30m", "1h30m"),
        ("7d", "168h"),
        ("1.5s", "1s500ms"),
        ("0.050s", "50ms"),
        ("750ms", "750ms"),
        ("5m10ms", "5m10ms"),
        ("0s", "0s"),
        ("3650d", "87600h"),
    ],
)
def test_a_duration_has_one_canonical_text(text: str, canonical: str) -> None:
    assert wire(Duration, text) == canonical
    assert wire(Duration, canonical) == canonical


NO_DURATIONS = ("", "5", "5 m", "m", "1m1h", "-5s", "1.5h", "5M", "٣s", "3651d", 5, None)


@pytest.mark.parametrize("value", [*NO_DURATIONS, pytest.param("9" * 40 + "d", id="40 digits")])
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="duration"):
        TypeAdapter(Duration).validate_python(value)


def test_a_text_of_a_million_digits_is_no_duration() -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration("9" * 10**6 + "s")


def test_some_durations_must_be_longer_than_nothing() -> None:
    with pytest.raises(ValidationError, match="longer than 0s"):
        TypeAdapter(PositiveDuration).validate_python("0s")
    assert TypeAdapter(PositiveDuration).validate_python("1ms") == timedelta(milliseconds=1)
    assert format_duration(parse_duration("1ms")) == "1ms"


@pytest.mark.parametrize(
    ("value", "canonical"),
    [(2, "2"), ("2", "2"), ("2.00", "2"), (2.0, "2"), ("0.250000", "0.25"), (0.1, "0.1"), (0, "0"), (-0.0, "0")],
)
def test_money_has_one_canonical_text(value: object, canonical: str) -> None:
    assert wire(Money, value) == canonical
    assert wire(Money, canonical) == canonical


NO_AMOUNTS = ("", "2.", ".5", "-1", "1e3", "1_000", " 2", "٢", "0.0000001", "NaN", "$2", -1, 10**9 + 1, True, None)
NO_NUMBERS = (1e-7, 1e300, float("nan"), float("inf"), 10**400)


@pytest.mark.parametrize("value", [*NO_AMOUNTS, *NO_NUMBERS])
def test_what_is_no_amount_is_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="amount in USD"):
        TypeAdapter(Money).validate_python(value)


def test_a_number_of_many_digits_is_refused_without_being_written_out() -> None:
    with pytest.raises(ValueError, match="amount in USD lies between"):
        parse_money(10**5000)


def test_amounts_never_show_an_exponent() -> None:
    assert format_money(Decimal("1E+2")) == "100"
    assert format_money(Decimal("0E-10")) == "0"
    assert parse_money(Decimal("-0")).is_signed() is False


def test_the_ledger_counts_in_millionths() -> None:
    assert to_micros(Decimal("0.25")) == 250_000
    assert from_micros(250_000) == Decimal("0.25")


def test_a_time_is_kept_in_utc_to_the_millisecond() -> None:
    assert wire(Time, "2026-11-21T09:00:00+01:00") == "2026-11-21T08:00:00.000Z"
    assert wire(Time, "2026-11-21T08:00:00.123456Z") == "2026-11-21T08:00:00.123Z"
    assert format_time(datetime(1, 1, 2, tzinfo=UTC)) == "0001-01-02T00:00:00.000Z"


NO_TIMES = ("tomorrow", "2026-11-21", "2026-11-21T09:00:00", "0001-01-01T00:00:00+14:00", 5, None)


@pytest.mark.parametrize("value", NO_TIMES)
def test_what_is_no_moment_is_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="time"):
        TypeAdapter(Time).validate_python(value)


def test_a_date_is_a_day_of_the_calendar() -> None:
    assert wire(Date, "2026-02-28") == "2026-02-28"
    for value in ("2026-02-30", "2026-2-3", "20260228", "2026-02-28T00:00:00Z", 20260228, datetime(2026, 2, 28)):
        with pytest.raises(ValidationError, match=r"date|day"):
            TypeAdapter(Date).validate_python(value)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0 9 * * MON-FRI", "0 9 * * MON-FRI"),
        (" 0  9 * *\tmon-fri ", "0 9 * * MON-FRI"),
        ("@Daily", "@daily"),
        ("0 0 L * *", "0 0 L * *"),
        ("0 0 29 2 *", "0 0 29 2 *"),
    ],
)
def test_a_schedule_has_one_canonical_text(text: str, canonical: str) -> None:
    assert require_cron(text) == canonical
    assert require_cron(canonical) == canonical


def test_aliases_are_written_out_on_demand() -> None:
    assert expand("@daily") == "0 0 * * *"
    assert expand("0 9 * * *") == "0 9 * * *"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("61 * * * *", "the minute '61'"),
        ("0 25 * * *", "the hour '25'"),
        ("0 0 32 * *", "the day of month '32'"),
        ("0 0 * FOO *", "the month 'FOO'"),
        ("0 0 * * 8", "the day of week '8'"),
        ("* * * * FRI-MON", "the day of week 'FRI-MON'"),
        ("0 0 31 2 *", "never comes"),
        ("* * * * * *", "this has 6"),
        ("0 9 * *", "this has 4"),
        ("", "five fields"),
        ("@every 5m", "write */5"),
        ("@reboot", "declare a Mission"),
        ("@fortnightly", "there are @annually"),
        ("CRON_TZ=UTC 0 9 * * *", "timeZone"),
        ("0 9 * * MON;reboot", "is made of digits"),
        pytest.param("* " * 10**5, "five fields", id="many fields"),
        ("1,,2 * * * *", "the minute"),
        ("1-2-3 * * * *", "the minute"),
        ("1#2/3 * * * *", "the minute"),
        ("*/0 * * * *", "the minute"),
    ],
)
def test_a_wrong_schedule_is_refused_in_plain_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        require_cron(text)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+1"])
def test_zones_of_the_iana_database_are_accepted(name: str) -> None:
    assert require_time_zone(name) == name


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("europe/berlin", "Europe/Berlin"),
        ("Berlin", "Europe/Berlin"),
        ("new york", "America/New_York"),
        ("Europe/Berln", "Europe/Berlin"),
        ("../../etc/passwd", "Europe/Berlin"),
        ("localtime", "Europe/Berlin"),
        ("posix/UTC", "Europe/Berlin"),
        ("right/UTC", "Europe/Berlin"),
        ("Europe", "Europe/"),
        ("", "Europe/Berlin"),
        pytest.param("x" * 10**6, "Europe/Berlin", id="long"),
    ],
)
def test_any_other_zone_is_refused_with_a_name_that_works(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match="no time zone of that name") as caught:
        require_time_zone(name)
    assert hint in str(caught.value)


@pytest.mark.parametrize("name", ["a", "a.b", "a-b", "0", "a" * 253])
def test_names_are_those_of_kubernetes(name: str) -> None:
    assert is_name(name)
    assert TypeAdapter(Name).validate_python(name) == name


@pytest.mark.parametrize(
    "name", ["", "A", "-a", "a-", ".a", "a.", "a..b", "a.-b", "a/b", "a b", "a\n", "ä", "a" * 254, "..", "-x=y"]
)
def test_what_could_mislead_a_path_or_a_command_line_is_no_name(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(name)


def test_subjects_say_what_they_are_and_cannot_look_like_another() -> None:
    for good in ("user:alice", "user:a@b.example", "agent:default/auditor", "service:ci", "user:auth0|1"):
        assert TypeAdapter(Subject).validate_python(good) == good
    for bad in ("alice", "user:", "root:x", "user:аlice", "user:a b", "user:a\u202eb", "user:-x", "USER:a"):
        with pytest.raises(ValidationError):
            TypeAdapter(Subject).validate_python(bad)


def test_a_line_is_one_line() -> None:
    assert TypeAdapter(Line).validate_python("  a b\n") == "a b"
    for bad in ("", "  ", "a\nb", "a\x1b[31m", "a" * 201):
        with pytest.raises(ValidationError):
            TypeAdapter(Line).validate_python(bad)
