"""Cron schedules as CronJob writes them: five fields, or a word such as @daily. When they fire is decided elsewhere."""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from schemas.quantities import SCHEMA_TYPE

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""Words that stand for a schedule, and the five fields they mean (Kubernetes CronJob has the same)."""

FIELDS = ("minute", "hour", "day of month", "month", "day of week")
_ALLOWED = {
    "minute": "0-59",
    "hour": "0-23",
    "day of month": "1-31, L for the last day, or LW for the last weekday",
    "month": "1-12 or JAN-DEC",
    "day of week": "0-7 or SUN-SAT, 1#2 for the second Monday, 5L for the last Friday",
}
# A fixed day to try schedules from; the library looks 50 years ahead before it gives up.
_PROBE = datetime(2026, 1, 1, tzinfo=UTC)
_LONGEST = 100


def expand(schedule: str) -> str:
    """The five fields of a valid schedule: aliases written out."""
    return ALIASES.get(schedule, schedule)


@functools.lru_cache(maxsize=10_000)
def require_cron(text: str) -> str:
    """``text`` with single blanks between the fields, aliases and names of days and months kept as words. Raises
    ValueError that says in plain words which field is wrong and what it may hold."""
    # Imported here: most commands never meet a schedule.
    import cronsim

    words = text.split()
    if text.strip().lower() in ALIASES:
        return text.strip().lower()
    if text.strip().startswith("@"):
        raise ValueError(_alias_fault(text.strip()))
    if words and "=" in words[0]:
        raise ValueError("the time zone of a schedule stands in the field timeZone")
    if len(words) != len(FIELDS) or len(text) > _LONGEST:
        raise ValueError(
            f"a schedule has five fields ({', '.join(FIELDS)}), such as '0 9 * * MON-FRI', or is a word such as @daily"
            + (f"; this has {len(words)}" if len(text) <= _LONGEST else "")
        )
    if not all(re.fullmatch(r"[0-9A-Za-z*,/#-]+", word) for word in words):
        raise ValueError("a schedule is made of digits, names of days and months, and the signs * , - / #")
    canonical = " ".join(words).upper()
    for position, name in enumerate(FIELDS):
        # One field at a time among stars, so that the message names the field that is wrong.
        alone = ["*"] * len(FIELDS)
        alone[position] = words[position].upper()
        if not _parses(" ".join(alone)):
            raise ValueError(f"the {name} {words[position]!r} is not one that cron knows; it may hold {_ALLOWED[name]}")
    if not _parses(canonical) or next(cronsim.CronSim(canonical, _PROBE), None) is None:
        raise ValueError("that day never comes: look at day of month and month together")
    return canonical


def _parses(text: str) -> bool:
    import cronsim

    try:
        cronsim.CronSim(text, _PROBE)
    except (cronsim.CronSimError, ValueError, AssertionError):
        # The library asserts where a step follows a form such as 1#2 that takes none.
        return False
    return True


def _alias_fault(word: str) -> str:
    if word.startswith("@every"):
        return "@every is not a word of cron: write */5 * * * * for every five minutes"
    if word == "@reboot":
        return "@reboot is not a time: declare a Mission for work that is to be done once"
    return f"not a word for a schedule: there are {', '.join(sorted(ALIASES))}"


Cron = Annotated[str, AfterValidator(require_cron), Field(max_length=_LONGEST, json_schema_extra={SCHEMA_TYPE: "cron"})]
"""A schedule: five fields (minute, hour, day of month, month, day of week) or one of ALIASES."""
