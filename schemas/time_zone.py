"""Time zones as people write them: names of the IANA database, such as Europe/Berlin."""

from __future__ import annotations

import difflib
import functools
import re
import zoneinfo
from typing import Annotated

from pydantic import AfterValidator, Field

from schemas.quantities import SCHEMA_TYPE

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,3}")
# What these mean depends on the machine or on how its zone files were built.
_LOCAL = ("localtime", "posixrules", "Factory", "posix", "right", "build")


@functools.lru_cache(maxsize=1000)
def _exists(name: str) -> bool:
    if _NAME.fullmatch(name) is None or name.split("/")[0] in _LOCAL:
        return False
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


@functools.lru_cache(maxsize=1)
def _known_names() -> dict[str, str]:
    return {name.lower(): name for name in zoneinfo.available_timezones() if name.split("/")[0] not in _LOCAL}


def require_time_zone(name: str) -> str:
    """``name`` itself when the IANA database has it; else raise ValueError, with the nearest name there is."""
    if _exists(name):
        return name
    known = _known_names()
    # A person who writes "berlin" means the last part of a name.
    by_city = {key.rsplit("/", 1)[-1]: value for key, value in known.items()}
    wanted = name[:64].lower().replace(" ", "_")
    # Only names that begin alike are compared: it keeps ten thousand wrong names from costing minutes.
    candidates = [key for key in (*known, *by_city) if key[:2] == wanted[:2]]
    near = difflib.get_close_matches(wanted, candidates, n=1, cutoff=0.75)
    found = known.get(near[0]) or by_city[near[0]] if near else ""
    hint = f": did you mean {found}?" if found else ": write a name such as UTC or Europe/Berlin"
    raise ValueError(f"no time zone of that name{hint}")


TimeZone = Annotated[
    str, AfterValidator(require_time_zone), Field(max_length=64, json_schema_extra={SCHEMA_TYPE: "time zone"})
]
"""A name of the IANA time zone database."""
