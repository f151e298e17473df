"""What a call may cost: the limits it falls under, and what is reserved for it.

A run reserves its worst case when it starts. What a call is estimated at comes out of that where the run reserved
anything of the sort ("inside"), and is reserved beside it where it did not ("on top"): so nothing counts twice, and
nothing is unlimited.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from typing import Any

from controllers.gate.asking import Asked, Asker
from controllers.gate.falls_under import FallsUnder
from controllers.reconcilers import spending
from controllers.runs import calls
from controllers.runs.settlement import reservation_key
from decisions import meters
from decisions.meters import Breach, Cap, Meter, Reading
from decisions.policy.facts import Barrier
from decisions.windows import span
from schemas.budget import OnBreach, Window
from schemas.mission import Spend
from schemas.policy import Verdict
from schemas.quantities import to_micros
from schemas.resource import Resource
from store.contract import NOTHING, Amounts, EntryKind, LedgerEntry, Transaction

_UNITS = tuple(field.name for field in fields(Amounts))
_RESERVED = "the reservation of its run"


@dataclass(frozen=True, slots=True)
class Money:
    """What a call would reserve and where, and what stands in its way. ``until`` is when that ends by itself."""

    barrier: Barrier | None
    inside: Amounts = NOTHING
    on_top: Amounts = NOTHING
    accounts: tuple[str, ...] = ()
    until: datetime | None = None
    note: dict[str, Any] = field(default_factory=dict)


def budget(tx: Transaction, asker: Asker, asked: Asked, falls: FallsUnder | None) -> Money:
    """What the call comes to, as the ledger stands in this transaction. ``falls`` None: its executor is gone."""
    want, run_uid = _wanted(asked), asker.run.uid
    entry = tx.open_reservation(reservation_key(run_uid))
    reserved = NOTHING if entry is None else entry.amounts
    if falls is None:
        barrier = Barrier(Verdict.DENY, "the run's executor is gone: nothing says what it may cost", "its executor")
        return Money(barrier)
    standing = falls.standing
    if falls.declared:
        spending.count_in_all(tx, standing, falls.budgets)
    inside, on_top = _split(want, reserved)
    if not falls.calls_count and on_top.tool_calls:  # nobody limits them: the run counts them
        on_top = Amounts(on_top.usd_micros, on_top.tokens, 0, on_top.wall_ms)
    breaches = [*_beyond_reserved(tx, asker, reserved, inside)]
    if not all(meters.fits(cap, tx.balance(account), on_top) for cap, account in falls.binding):
        breaches += [*_breached(tx, (*standing, *falls.single), on_top), *_overdrawn(tx, standing)]
    if not breaches:
        return Money(None, inside, on_top, falls.accounts, None, {"for": falls.about})
    worst = max(breaches, key=_hardness)
    return Money(_barrier(worst), inside, on_top, falls.accounts, worst.meter.span.end, {"for": falls.about})


def reserve(tx: Transaction, asker: Asker, call: Resource, money: Money, *, new: bool = False) -> None:
    """Post what the call may use, in the transaction that allows it. ``new``: which made its record, too."""
    note = {"call": call.name, "run": asker.run.name, **money.note}
    if money.on_top != NOTHING:
        key = calls.on_top_key(call.uid)
        tx.post(LedgerEntry(key, EntryKind.RESERVE, money.accounts, money.on_top, tx.now, note=note), fresh=new)
    if money.inside != NOTHING:
        key, accounts = calls.inside_key(call.uid), (calls.inside_account(asker.run.uid),)
        tx.post(LedgerEntry(key, EntryKind.RESERVE, accounts, money.inside, tx.now, note=note), fresh=new)


def _wanted(asked: Asked) -> Amounts:
    estimate = asked.estimate or Spend()
    usd = min(to_micros(estimate.usd or Decimal(0)), calls.MOST_USD_MICROS)
    return Amounts(usd_micros=usd, tokens=estimate.input_tokens + estimate.output_tokens, tool_calls=1)


def _split(want: Amounts, reserved: Amounts) -> tuple[Amounts, Amounts]:
    """What is taken out of the reservation, which holds units of that sort, and what goes beside it."""
    if reserved == NOTHING:
        return NOTHING, want
    inside = {unit: getattr(want, unit) for unit in _UNITS if getattr(reserved, unit)}
    beside = {unit: getattr(want, unit) for unit in _UNITS if not getattr(reserved, unit)}
    return Amounts(**inside), Amounts(**beside)


def _beyond_reserved(tx: Transaction, asker: Asker, reserved: Amounts, want: Amounts) -> Iterable[Breach]:
    if want == NOTHING:
        return
    spend = asker.record.status.spend
    spent = Amounts(
        usd_micros=to_micros(spend.usd or Decimal(0)),
        tokens=spend.input_tokens + spend.output_tokens,
        tool_calls=asker.record.status.tool_calls,
    )
    window = span(Window.RUN, "UTC", tx.now)
    meter = Meter("", _masked(_cap(reserved), want), _RESERVED, OnBreach.BLOCK_MISSION, window)
    held = tx.balance(calls.inside_account(asker.run.uid)).reserved
    breach = meters.room(meter, Reading(spent, held, NOTHING), want)
    if breach is not None:
        yield breach


def _breached(tx: Transaction, limits: Iterable[Meter], want: Amounts) -> Iterable[Breach]:
    for meter in limits:
        cap = _masked(meter.cap, want)
        if cap == Cap() or meter.on_breach is OnBreach.WARN:
            continue
        masked = Meter(meter.account, cap, meter.origin, meter.on_breach, meter.span, meter.warn_at)
        breach = meters.room(masked, spending.reading(tx, meter.account), want)
        if breach is not None:
            yield breach


def _overdrawn(tx: Transaction, limits: Iterable[Meter]) -> Iterable[Breach]:
    """Limits that hold more than they allow, also without this call: they were lowered since the run began, or a run
    used more than was reserved for it. They bite at the next call, whatever it costs."""
    for meter in limits:
        if meter.on_breach is OnBreach.WARN:
            continue
        reading = spending.reading(tx, meter.account)
        if meters.overdrawn(meter, reading):
            breach = meters.room(meter, reading, NOTHING)
            if breach is not None:
                yield breach


def _cap(amounts: Amounts) -> Cap:
    return Cap(**{unit: getattr(amounts, unit) for unit in _UNITS})


def _masked(cap: Cap, want: Amounts) -> Cap:
    """The limit of what is wanted: what else is used up does not stop a call that needs none of it."""
    return Cap(**{unit: getattr(cap, unit) if getattr(want, unit) else None for unit in _UNITS})


def _hardness(breach: Breach) -> tuple[bool, bool, float]:
    """What refuses counts before what asks, and then what lasts longest."""
    end = breach.meter.span.end
    asks = breach.meter.on_breach is OnBreach.REQUIRE_APPROVAL
    return not asks, end is None, 0.0 if end is None else end.timestamp()


def _barrier(breach: Breach) -> Barrier:
    asks = breach.meter.on_breach is OnBreach.REQUIRE_APPROVAL
    remedy = "an approval" if asks else f"more room in {breach.meter.origin}"
    message = breach.message.replace("for this run", "for this call")
    return Barrier(Verdict.REQUIRE_APPROVAL if asks else Verdict.DENY, message, breach.meter.origin, "", remedy)
