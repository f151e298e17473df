"""What people grant on top of a limit: never more than was asked, unless each of them says that more is meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

from schemas.amounts import Amounts
from schemas.approval_decision import BudgetGrant
from schemas.quantities import to_micros

LARGEST = 2**53
"""The ledger takes no larger amount."""
_UNITS = tuple(field.name for field in fields(Amounts))
_WIRE = {"usd_micros": "usdMicros", "tokens": "tokens", "tool_calls": "toolCalls", "wall_ms": "wallMs"}
_SHOWN = {"usd_micros": "usd", "tokens": "tokens", "tool_calls": "toolCalls", "wall_ms": "wallTime"}


def asked(action: Mapping[str, Any]) -> Amounts:
    """What a request of type Budget asks for, by its action."""
    return Amounts(**{unit: int(action.get(name, 0)) for unit, name in _WIRE.items()})


def beyond(grant: BudgetGrant, wanted: Amounts) -> tuple[str, ...]:
    """Fields in which a grant is larger than what was asked, although it does not say that this is meant."""
    if grant.beyond_request:
        return ()
    return tuple(_SHOWN[unit] for unit in _UNITS if (_amount(grant, unit) or 0) > getattr(wanted, unit))


def granted(grants: Iterable[BudgetGrant | None], wanted: Amounts) -> tuple[Amounts, datetime | None]:
    """What people grant together, and until when: of each amount the least that one of them named, of the ends the
    earliest. What nobody names is granted as it was asked, until its window is over."""
    given = [grant for grant in grants if grant is not None]
    found = {}
    for unit in _UNITS:
        named = [amount for grant in given if (amount := _amount(grant, unit)) is not None]
        if any(_amount(grant, unit) is None for grant in given) or not given:
            named.append(getattr(wanted, unit))
        found[unit] = min(*named, LARGEST)
    ends = [grant.until for grant in given if grant.until is not None]
    return Amounts(**found), min(ends, default=None)


def _amount(grant: BudgetGrant, unit: str) -> int | None:
    if unit == "usd_micros":
        return None if grant.usd is None else to_micros(grant.usd)
    if unit == "wall_ms":
        return None if grant.wall_time is None else grant.wall_time // timedelta(milliseconds=1)
    value: int | None = getattr(grant, unit)
    return value
