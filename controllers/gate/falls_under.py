"""The limits that the calls of a run fall under. They follow from what is declared, and are worked out anew when any of
it, or the window of time, is another one; what the limits hold is read with each call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from controllers.gate.asking import Asker
from controllers.reconcilers import counting, spending
from controllers.runs import calls
from decisions import meters
from decisions.meters import BUILT_IN, Cap, Meter, Work
from decisions.windows import span
from schemas.base import Key
from schemas.budget import DEFAULT_RUN_USD, BudgetSpec, OnBreach, Window
from schemas.executor import ExecutorSpec
from schemas.parsed import parsed
from schemas.quantities import to_micros
from schemas.resource import Resource
from store.contract import Transaction

_MOST = 2_000
_QUARTER = timedelta(minutes=15)
"""Midnight, wherever it is, falls on a quarter of an hour."""
_ZERO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class FallsUnder:
    """``standing`` are limits over accounts that other runs share, ``single`` those of the run alone; ``accounts`` is
    where a reservation beside the run counts, ``about`` what it notes of the work."""

    standing: tuple[Meter, ...]
    single: tuple[Meter, ...]
    budgets: dict[Key, BudgetSpec]
    accounts: tuple[str, ...]
    about: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Known:
    quarter: int
    rests_on: tuple[Resource | None, ...]
    found: FallsUnder


_known: dict[str, _Known] = {}


def look(tx: Transaction, asker: Asker) -> FallsUnder | None:
    """What holds for the run in this transaction; None where its executor is gone. What it rests on is read now, and
    compared object by object: the store hands out the same one only while nobody wrote to it."""
    namespace = asker.mission.namespace
    executor = tx.get(asker.record.spec.executor_ref.key("Executor", asker.run.namespace))
    if executor is None:
        return None
    budgets = tx.objects("Budget", namespace=namespace)
    tenant = tx.get(Key("Tenant", "", namespace))
    rests_on = (asker.mission, asker.agent, executor, tenant, *budgets)
    quarter = (tx.now - _ZERO) // _QUARTER
    known = _known.get(asker.run.uid)
    if known is not None and known.quarter == quarter and _same(known.rests_on, rests_on):
        return known.found
    found = _worked_out(tx, asker, parsed(ExecutorSpec, executor.spec))
    if len(_known) >= _MOST:
        _known.clear()
    _known[asker.run.uid] = _Known(quarter, rests_on, found)
    return found


def _same(one: tuple[Resource | None, ...], other: tuple[Resource | None, ...]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _worked_out(tx: Transaction, asker: Asker, program: ExecutorSpec) -> FallsUnder:
    mission, agent, run_uid = asker.mission, asker.agent, asker.run.uid
    work = spending.work_of(tx, mission, agent, asker.agent_spec, program)
    budgets = dict(spending.budgets_of(tx, mission.namespace))
    standing = tuple(meters.meters(work, budgets.items(), tx.now))
    accounts = (
        *spending.standing_accounts(mission, agent, f"{tx.now:%Y-%m-%d}"),
        *(meter.account for meter in standing),
        calls.on_top_account(run_uid),
    )
    return FallsUnder(
        standing,
        tuple(_of_single_runs(work, budgets.items(), run_uid, tx.now)),
        budgets,
        tuple(dict.fromkeys(accounts)),
        counting.about(work),
    )


def _of_single_runs(
    work: Work, budgets: Iterable[tuple[Key, BudgetSpec]], run_uid: str, now: datetime
) -> Iterable[Meter]:
    """Limits of one run, for what its calls use beside its reservation."""
    account, window, money = calls.on_top_account(run_uid), span(Window.RUN, "UTC", now), False
    for key, spec in budgets:
        if spec.window is Window.RUN and meters.covers(key, spec, work):
            money |= spec.limits.usd is not None
            yield Meter(account, Cap.of(spec.limits), key.short, spec.on_breach, window, spec.warn_at)
    if not money:
        cap = Cap(usd_micros=to_micros(DEFAULT_RUN_USD[work.level] if work.built_in else Decimal(0)))
        yield Meter(account, cap, BUILT_IN, OnBreach.BLOCK_MISSION, window)
