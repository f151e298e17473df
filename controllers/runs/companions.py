"""Companions of a reservation: the same amounts, reserved in limits that were declared since, which end with it."""

from __future__ import annotations

from store.contract import Amounts, EntryKind, LedgerEntry, Transaction


def companions_account(reservation: str) -> str:
    """Account of all companions of a reservation."""
    return f"companions/{reservation}"


def reserve_too(tx: Transaction, account: str, entry: LedgerEntry) -> None:
    """Reserve in ``account`` what ``entry`` reserves elsewhere. Idempotent."""
    tx.post(
        LedgerEntry(
            key=f"{entry.key}/{account}",
            kind=EntryKind.RESERVE,
            accounts=(account, companions_account(entry.key)),
            amounts=entry.amounts,
            at=tx.now,
            note={"with": entry.key},
        )
    )


def end_companions(tx: Transaction, reservation: str, used: Amounts) -> None:
    """Settle the companions of a reservation with what was used. Idempotent."""
    account = companions_account(reservation)
    if tx.balance(account).reserved == Amounts():
        return
    for entry in tx.open_reservations(account=account):
        tx.post(
            LedgerEntry(
                key=f"settle/{entry.key}",
                kind=EntryKind.SETTLE,
                accounts=entry.accounts,
                amounts=used,
                at=tx.now,
                reservation=entry.key,
            )
        )
