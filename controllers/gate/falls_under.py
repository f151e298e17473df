"""The limits that the calls of a run fall under. They follow from what is declared; what they hold is read with each
call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
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
from store.contract import Transaction


@dataclass(frozen=True, slots=True)
class FallsUnder:
    """``standing`` are limits over accounts that other runs share, ``single`` those of the run alone; ``accounts`` is
    where a reservation beside the run counts, ``about`` what it notes of the work. ``binding`` are those of all that
    may stand in the way, with their accounts; ``calls_count`` says whether any limits the number of calls, ``declared``
    whether any is a Budget."""

    standing: tuple[Meter, ...]
    single: tuple[Meter, ...]
    binding: tuple[tuple[Cap, str], ...]
    calls_count: bool
    declared: bool
    budgets: dict[Key, BudgetSpec]
    accounts: tuple[str, ...]
    about: dict[str, Any]


def look(tx: Transaction, asker: Asker) -> FallsUnder | None:
    """What holds for the run in this transaction; None where its executor is gone. Rests on mission, agent, executor,
    tenant and Budgets, and on the quarter of the hour."""
    executor = tx.get(asker.record.spec.executor_ref.key("Executor", asker.run.namespace))
    return None if executor is None else _worked_out(tx, asker, parsed(ExecutorSpec, executor.spec))


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
    single = tuple(_of_single_runs(work, budgets.items(), run_uid, tx.now))
    limits = (*standing, *single)
    return FallsUnder(
        standing,
        single,
        tuple((meter.cap, meter.account) for meter in limits if meter.on_breach is not OnBreach.WARN),
        any(meter.cap.tool_calls is not None for meter in limits),
        any(meter.budget is not None for meter in standing),
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
