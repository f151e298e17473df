"""The end of a run's reservation: what it really used is booked, or the worst case where nobody knows."""

from __future__ import annotations

from datetime import timedelta

from controllers.runs import calls
from controllers.runs.companions import end_companions
from schemas.mission import Spend
from schemas.quantities import to_micros
from schemas.run import RunStatus
from store.contract import Amounts, EntryKind, LedgerEntry, Snapshot, Transaction

_MOST_MS = 2**53


def reservation_key(run_uid: str) -> str:
    """Ledger key of the Reserve entry that the dispatch of a run posts."""
    return f"reserve/run/{run_uid}"


def settlement_key(run_uid: str) -> str:
    """Ledger key of the entry that ends it."""
    return f"settle/run/{run_uid}"


def settle(tx: Transaction, run_uid: str, name: str, status: RunStatus, *, ran: bool) -> Amounts | None:
    """End the reservation of a run: Settle what it used, or Release it when it never ``ran``. Returns what was
    settled; None when nothing was reserved or the reservation has ended. ``status`` is the terminal one."""
    reserved = tx.open_reservation(reservation_key(run_uid))
    if reserved is None:
        return None
    # What its calls booked by themselves is part of what it used, and is not booked twice.
    booked = tx.balance(calls.on_top_account(run_uid)).spent
    used = _less(used_amounts(status, reserved.amounts), booked) if ran else Amounts()
    tx.post(
        LedgerEntry(
            key=settlement_key(run_uid),
            kind=EntryKind.SETTLE if ran else EntryKind.RELEASE,
            accounts=reserved.accounts,
            amounts=used,
            at=tx.now,
            reservation=reserved.key,
            note={"run": name, "source": status.spend.source if ran else "NeverStarted"},
        ),
        fresh=True,  # only this ends the reservation, and it is open
    )
    end_companions(tx, reserved.key, used)
    return used


def exceeds(tx: Snapshot, run_uid: str, status: RunStatus) -> bool:
    """Whether an open run reported more than was reserved for it. Where nothing was reserved, nothing was limited."""
    entry = tx.open_reservation(reservation_key(run_uid))
    if entry is None or status.cancel_requested_at is not None:
        return False
    reserved = entry.amounts
    spend = status.spend
    money = 0 if spend.usd is None else to_micros(spend.usd)
    tokens = spend.input_tokens + spend.output_tokens
    over = ((money, reserved.usd_micros), (tokens, reserved.tokens), (status.tool_calls, reserved.tool_calls))
    return any(limit and used > limit for used, limit in over)


def _less(used: Amounts, booked: Amounts) -> Amounts:
    return Amounts(
        usd_micros=max(0, used.usd_micros - booked.usd_micros),
        tokens=max(0, used.tokens - booked.tokens),
        tool_calls=max(0, used.tool_calls - booked.tool_calls),
        wall_ms=used.wall_ms,
    )


def used_amounts(status: RunStatus, reserved: Amounts) -> Amounts:
    """What to book. Money that nobody named, and tokens of an unknown source, count as reserved, or as reported where
    that is more. What its calls cost does not tell what its model cost: where money was reserved for it, that has to
    be told as well. Time is measured by us and always real."""
    spend: Spend = status.spend
    known = spend.source != "Unknown"
    told = known and (status.usage_told or not reserved.usd_micros)
    reported_usd = 0 if spend.usd is None else to_micros(spend.usd)
    tokens = spend.input_tokens + spend.output_tokens
    took = timedelta(0)
    if status.started_at is not None and status.ended_at is not None:
        took = max(took, status.ended_at - status.started_at)
    return Amounts(
        usd_micros=reported_usd if told and spend.usd is not None else max(reported_usd, reserved.usd_micros),
        tokens=tokens if told else max(tokens, reserved.tokens),
        tool_calls=status.tool_calls if known else max(status.tool_calls, reserved.tool_calls),
        wall_ms=min(_MOST_MS, took // timedelta(milliseconds=1)),
    )
