"""The ledger: append-only entries, and balances that move with them.

``spent + reserved`` of an account always equals what its entries add up to, and the database itself refuses a balance
below zero. What a limit is and whether there is room is decided in ``decisions``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from schemas.errors import Conflict, NotFound, StoreUnavailable
from store.codec import bounded, clean, dump, from_micros, load, load_object, to_micros
from store.contract import Amounts, Balance, EntryKind, LedgerEntry
from store.session import Row, Session, Statement
from store.tables import (
    COUNTED,
    HELD,
    account_set_members,
    account_sets,
    balances,
    ledger_entries,
    ledger_postings,
    reservations,
)  # fmt: skip

_e, _p, _r, _s, _m = ledger_entries.c, ledger_postings.c, reservations.c, account_sets.c, account_set_members.c

LARGEST = 2**53
"""No single amount is larger: it still fits a JSON number, and 500 of them fit a balance."""

_SUMS = [f"{held}_{unit}" for held in HELD for unit in COUNTED]
_ENTRY = sa.select(
    _e.seq, _e.key, _e.kind, *(_e[unit] for unit in COUNTED), _e.at, _e.reservation, _e.note, _s.accounts
).outerjoin(account_sets, _s.id == _e.account_set)

POSTINGS = sa.union_all(
    sa.select(_p.account, _p.seq), sa.select(_m.account, _e.seq).join(ledger_entries, _e.account_set == _m.account_set)
).subquery("postings")
"""Every account of every entry: (account, seq)."""

_GET = Statement(_ENTRY.where(_e.key == bindparam("key")))
_INSERT = Statement(
    sa.insert(ledger_entries)
    .values({column.name: bindparam(column.name) for column in _e if column.name != "seq"})
    .inline()
)
_AT: sa.BindParameter[str] = bindparam("at_key")
_SET = Statement(sa.select(_s.accounts).where(_s.id == bindparam("id")))
_NEW_SET = Statement(sa.insert(account_sets).values(id=bindparam("id"), accounts=bindparam("accounts")))
_NEW_MEMBER = Statement(
    sa.insert(account_set_members).values(account=bindparam("account"), account_set=bindparam("account_set")),
    later=True,
)
_OPEN = Statement(
    sa.insert(reservations).from_select(("seq", "key"), sa.select(_e.seq, _e.key).where(_e.key == _AT)), later=True
)
_END = Statement(sa.delete(reservations).where(_r.key == bindparam("at_key")))
_ENDED_BY = Statement(sa.select(_e.key).where(_e.reservation == bindparam("key")))
_ACCOUNT: sa.BindParameter[str] = bindparam("at_account")
_BALANCE = Statement(sa.select(*(balances.c[name] for name in _SUMS)).where(balances.c.account == _ACCOUNT))
_TO = tuple(f"to_{name}" for name in _SUMS)
_ALL_SUMS: dict[str, sa.BindParameter[int]] = {name: bindparam(to) for name, to in zip(_SUMS, _TO, strict=True)}
_NEW_BALANCE = Statement(sa.insert(balances).values(account=_ACCOUNT, **_ALL_SUMS))
_SET_BALANCE = Statement(sa.update(balances).where(balances.c.account == _ACCOUNT).values(_ALL_SUMS))
_RESERVED = [name for name in _SUMS if name.startswith("reserved_")]
_TO_RESERVED = tuple(f"to_{name}" for name in _RESERVED)
_SET_RESERVED = Statement(
    sa.update(balances)
    .where(balances.c.account == _ACCOUNT)
    .values({name: bindparam(to) for name, to in zip(_RESERVED, _TO_RESERVED, strict=True)})
)
_sums = attrgetter(*COUNTED)
_ALL = Statement(_ENTRY.order_by(_e.seq).limit(bindparam("limit")))
_OF_ACCOUNT = Statement(
    _ENTRY.where(_e.seq.in_(sa.select(POSTINGS.c.seq).where(POSTINGS.c.account == bindparam("account"))))
    .order_by(_e.seq)
    .limit(bindparam("limit"))
)
_ONE_OPEN = Statement(_ENTRY.join(reservations, _r.seq == _e.seq).where(_r.key == bindparam("key")))
_ALL_OPEN = Statement(_ENTRY.join(reservations, _r.seq == _e.seq).order_by(_r.seq))


@lru_cache(maxsize=16)
def _accounts_of(count: int) -> Statement:
    seqs: list[sa.BindParameter[int]] = [bindparam(f"seq{i}") for i in range(count)]
    return Statement(sa.select(_p.seq, _p.account).where(_p.seq.in_(seqs)).order_by(_p.seq, _p.place))


@lru_cache(maxsize=16)
def _balances_of(count: int) -> Statement:
    accounts: list[sa.BindParameter[str]] = [bindparam(f"account{i}") for i in range(count)]
    columns = (balances.c.account, *(balances.c[name] for name in _SUMS))
    return Statement(sa.select(*columns).where(balances.c.account.in_(accounts)))


class LedgerReads:
    """The part of Snapshot that concerns the ledger."""

    _session: Session

    def balance(self, account: str) -> Balance:
        row = self._session.row(_BALANCE, {"at_account": account}, apart=True)
        return Balance(account) if row is None else _to_balance(account, row)

    def ledger(self, *, account: str | None = None, limit: int = 1000) -> list[LedgerEntry]:
        statement = _ALL if account is None else _OF_ACCOUNT
        return self._entries(self._session.rows(statement, {"account": account, "limit": bounded(max(limit, 0))}))

    def open_reservations(self, *, account: str | None = None) -> list[LedgerEntry]:
        # Few are open at a time, but an account may have any number of entries: read the few, then choose.
        found = self._entries(self._session.rows(_ALL_OPEN))
        return [entry for entry in found if account is None or account in entry.accounts]

    def open_reservation(self, key: str) -> LedgerEntry | None:
        row = self._session.row(_ONE_OPEN, {"key": key})
        return None if row is None else self._entries([row])[0]

    def _entries(self, found: Iterable[Row]) -> list[LedgerEntry]:
        listed = list(found)
        accounts: dict[int, list[str]] = {row[0]: [] for row in listed if row[-1] is None}
        seqs = list(accounts)
        for start in range(0, len(seqs), 256):
            chunk = seqs[start : start + 256]
            size = 1 << (len(chunk) - 1).bit_length()  # few sizes, so few statements to compile
            params = {f"seq{i}": chunk[min(i, len(chunk) - 1)] for i in range(size)}
            for seq, account in self._session.rows(_accounts_of(size), params):
                accounts[seq].append(account)
        return [_to_entry(row, load(row[-1]) if row[-1] else accounts[row[0]]) for row in listed]

    def _entry(self, key: str) -> LedgerEntry | None:
        row = self._session.row(_GET, {"key": key})
        return None if row is None else self._entries([row])[0]


class LedgerWrites(LedgerReads):
    """The part of Transaction that concerns the ledger. Entries are held back; balances move in the memory of the
    session and are written once, with ``write_balances``."""

    _posted: set[str]

    def balance(self, account: str) -> Balance:
        return self._session.memory.balances.get(account) or self._balance(clean(account))

    def _balance(self, account: str) -> Balance:
        """Of a clean name."""
        memory = self._session.memory
        known = memory.balances.get(account)
        if known is None:
            row = self._session.row(_BALANCE, {"at_account": account}, apart=True)
            known = memory.balances[account] = Balance(account) if row is None else _to_balance(account, row)
            if row is not None:
                memory.accounts.add(account)
        return known

    def _learn_balances(self, accounts: Sequence[str]) -> None:
        """Read the balances that are not known yet in one go; names are clean."""
        memory = self._session.memory
        asked = [account for account in dict.fromkeys(accounts) if account not in memory.balances]
        if len(asked) < 2:
            return
        for start in range(0, len(asked), 64):
            chunk = asked[start : start + 64]
            size = 1 << (len(chunk) - 1).bit_length()
            params = {f"account{i}": chunk[min(i, len(chunk) - 1)] for i in range(size)}
            for account in chunk:
                memory.balances[account] = Balance(account)
            for account, *row in self._session.rows(_balances_of(size), params, apart=True):
                memory.balances[account] = _to_balance(account, tuple(row))
                memory.accounts.add(account)

    def open_reservation(self, key: str) -> LedgerEntry | None:
        known, key = self._session.memory.reservations, clean(key)
        if key not in known:
            known[key] = super().open_reservation(key)
        found = known[key]
        if callable(found):
            found = known[key] = found()
        return found

    def post(self, entry: LedgerEntry, *, fresh: bool = False) -> bool:
        amounts = _wire(entry.amounts)
        _check(entry, amounts)
        key = clean(entry.key)
        if key in self._posted:
            return False
        if not fresh and self._session.row(_GET, {"key": entry.key}, apart=True) is not None:
            return False
        reserved = self._reservation(entry) if entry.kind in (EntryKind.SETTLE, EntryKind.RELEASE) else None
        set_id, accounts = self._session.memory.account_sets.get(entry.accounts) or self._account_set(entry.accounts)
        session = self._session
        at, note = to_micros(entry.at), dump(entry.note)
        row = {
            "key": entry.key,
            "kind": entry.kind.value,
            **amounts,
            "at": at,
            "reservation": entry.reservation if reserved else None,
            "note": note,
            "account_set": set_id,
        }
        session.insert(_INSERT, row)
        self._posted.add(key)
        if reserved is not None and reserved.kind is EntryKind.GRANT:
            self._move(reserved.accounts, granted=-reserved.amounts)
        elif reserved is not None:
            session.update(_END, {"at_key": reserved.key})
            session.memory.reservations[clean(reserved.key)] = None
            self._move(reserved.accounts, reserved=-reserved.amounts)
        if entry.kind is EntryKind.RESERVE:
            session.insert(_OPEN, {"at_key": key})
            session.memory.reservations[key] = partial(
                _as_written, key, accounts, entry.amounts, at, entry.reservation, note
            )
            self._move(accounts, reserved=entry.amounts)
        elif entry.kind is EntryKind.SETTLE:
            self._move(accounts, spent=entry.amounts)
        elif entry.kind is EntryKind.GRANT:
            self._move(accounts, granted=entry.amounts)
        return True

    def _account_set(self, given: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
        """The set of these accounts; made where there is none."""
        known, accounts = self._session.memory.account_sets, tuple(dict.fromkeys(map(clean, given)))
        if accounts not in known:
            text = dump(list(accounts))
            set_id = _set_id(text)
            row = self._session.row(_SET, {"id": set_id}, apart=True)
            if row is None:
                members = [{"account": account, "account_set": set_id} for account in accounts]
                self._session.insert(_NEW_SET, {"id": set_id, "accounts": text})
                self._session.insert_many(_NEW_MEMBER, members)
            elif row[0] != text:
                raise StoreUnavailable(f"set {set_id} of accounts stands for {row[0]} and cannot stand for {text}")
            known[accounts] = set_id, accounts
        found = known[given] = known[accounts]
        return found

    def _reservation(self, entry: LedgerEntry) -> LedgerEntry:
        """The Reserve entry that this one ends, or the Grant that this Release takes back."""
        if self._session.memory.reservations.get(clean(entry.reservation)) is not None:
            known = self.open_reservation(entry.reservation)
            assert known is not None
            return known
        reserved = self._entry(entry.reservation)
        ends = (EntryKind.RESERVE, EntryKind.GRANT) if entry.kind is EntryKind.RELEASE else (EntryKind.RESERVE,)
        if reserved is None or reserved.kind not in ends:
            raise NotFound(f"ledger entry {entry.key} ends the reservation {entry.reservation!r}, which does not exist")
        ended_by = self._session.row(_ENDED_BY, {"key": reserved.key})
        if ended_by is not None:
            raise Conflict(f"the reservation {reserved.key} was ended by {ended_by[0]}; {entry.key} comes too late")
        return reserved

    def _move(
        self, accounts: Iterable[str], *, spent: Amounts | None = None, reserved: Amounts | None = None,
        granted: Amounts | None = None,
    ) -> None:  # fmt: skip
        """Add to sums of accounts, whose names are clean."""
        memory, accounts = self._session.memory, list(accounts)
        more = spent is not None or granted is not None
        self._learn_balances(accounts)
        for account in accounts:
            was = self._balance(account)
            memory.unwritten[account] = more or memory.unwritten.get(account, False)
            memory.balances[account] = Balance(
                account,
                was.spent if spent is None else was.spent + spent,
                was.reserved if reserved is None else was.reserved + reserved,
                was.granted if granted is None else was.granted + granted,
            )

    def write_balances(self) -> None:
        """Bring the table to what the memory says. The database refuses what is below zero."""
        memory = self._session.memory
        written, memory.unwritten = memory.unwritten, {}
        for account, more in sorted(written.items()):
            found = memory.balances[account]
            if not more and account in memory.accounts:
                reserved: dict[str, Any] = dict(zip(_TO_RESERVED, _sums(found.reserved), strict=True))
                reserved["at_account"] = account
                self._session.update(_SET_RESERVED, reserved)
                continue
            row: dict[str, Any] = dict(
                zip(_TO, (*_sums(found.spent), *_sums(found.reserved), *_sums(found.granted)), strict=True)
            )
            row["at_account"] = account
            if account in memory.accounts:
                self._session.update(_SET_BALANCE, row)
            else:
                self._session.insert(_NEW_BALANCE, row)
                memory.accounts.add(account)


def _to_balance(account: str, row: Row) -> Balance:
    size = len(COUNTED)
    return Balance(account, *(Amounts(*row[start : start + size]) for start in range(0, len(_SUMS), size)))


def _as_written(
    key: str, accounts: tuple[str, ...], amounts: Amounts, at: int, reservation: str, note: str
) -> LedgerEntry:
    """A Reserve entry, as reading its row gives it."""
    return LedgerEntry(key, EntryKind.RESERVE, accounts, amounts, from_micros(at), reservation, load_object(note))


def _set_id(text: str) -> int:
    """The number of a set of accounts, which nobody has to ask for: 62 bits of its digest, and never 0."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 2 or 1


def _wire(amounts: Amounts) -> dict[str, int]:
    return dict(zip(COUNTED, _sums(amounts), strict=True))


def _check(entry: LedgerEntry, amounts: dict[str, int]) -> None:
    """Raises ValueError for an entry that means nothing. Amounts come from agents in the end."""
    for unit, value in amounts.items():
        if not 0 <= value <= LARGEST:
            raise ValueError(f"ledger entry {entry.key}: {unit} is {value}, but lies between 0 and {LARGEST}")
    if entry.kind in (EntryKind.RESERVE, EntryKind.GRANT) and entry.reservation:
        raise ValueError(f"ledger entry {entry.key}: a {entry.kind} ends no reservation")


def _to_entry(row: Row, accounts: list[str]) -> LedgerEntry:
    _, key, kind, usd_micros, tokens, tool_calls, wall_ms, at, reservation, note, _ = row
    return LedgerEntry(
        key,
        EntryKind(kind),
        tuple(accounts),
        Amounts(usd_micros, tokens, tool_calls, wall_ms),
        from_micros(at),
        reservation or "",
        load_object(note),
    )
