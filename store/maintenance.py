"""Care of a store: copies of it while it runs, and a check of everything in it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from schemas.errors import StoreUnavailable
from store import errors, revision
from store.backend import Backend
from store.contract import GENESIS, Amounts, ChainReport, EntryKind
from store.ledger import POSTINGS
from store.place import check_file, sqlite_path
from store.postgres_address import is_postgres, parse
from store.postgres_open import postgres_backend
from store.session import Session, Statement
from store.snapshot import SqlSnapshot
from store.sqlite import BUSY_WAIT_S, SqliteBackend
from store.tables import COUNTED, HELD, balances, ledger_entries

_MOST_PROBLEMS = 20
_SPENT, _RESERVED, _GRANTED = range(len(HELD))


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What ``check`` found. ``problems`` are sentences, empty when all is well; ``chain`` is that of the events."""

    place: str
    revision: str
    problems: tuple[str, ...]
    chain: ChainReport

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def backup(url: str, target: Path) -> int:
    """Copy a store to the new file ``target``, as it is at one moment; writers go on meanwhile. Returns its size in
    bytes. The copy is complete and on disk before it gets its name; it is opened like any store, or put in the place
    of one while no engine runs. Raises StoreUnavailable, also when ``target`` exists."""
    if is_postgres(url):
        raise StoreUnavailable("a PostgreSQL store is backed up with pg_dump: see docs/howto/postgresql.md")
    if target.exists():
        raise StoreUnavailable(f"{target} exists already: name a new file for the backup")
    unfinished = target.with_name(target.name + ".unfinished")
    with _opened(url) as backend:
        assert isinstance(backend, SqliteBackend)
        try:
            os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            _copy(backend, unfinished)
            os.link(unfinished, target)  # unlike a rename it refuses a file that came up meanwhile
            _sync(target.parent)
        except OSError as error:
            raise StoreUnavailable(f"the backup {target} cannot be written: {error.strerror}") from error
        finally:
            with suppress(OSError):
                unfinished.unlink()
    return target.stat().st_size


def check(url: str, *, progress: Callable[[int], None] | None = None) -> CheckReport:
    """Look at everything: the pages of the file, references between rows, the chain of events, the sums of the ledger.
    Reads only. Raises StoreUnavailable when there is no such file, or one that is no database. The pages of PostgreSQL
    are its own to check (`pg_amcheck`)."""
    if is_postgres(url):
        place = parse(url).place
    else:
        place = str(sqlite_path(url))
        check_file(Path(place))
    problems: list[str] = []
    chain, at = ChainReport(0, GENESIS), ""
    try:
        with _opened(url) as backend:
            problems += _check_file(backend) if isinstance(backend, SqliteBackend) else []
            at = backend.revision() or ""
            if revision.is_current(backend):
                with backend.reading() as session:
                    chain = SqlSnapshot(session).verify_events(progress=progress)
                    problems += [chain.problem] if chain.problem else []
                    problems += _check_ledger(session)
            else:
                problems.append(f"its tables are at revision {at or 'none'}, this version works on {revision.HEAD}")
    except StoreUnavailable as error:  # too damaged to be read as a store
        problems.append(str(error))
    return CheckReport(place, at, tuple(dict.fromkeys(problems))[:_MOST_PROBLEMS], chain)


def _copy(backend: SqliteBackend, target: Path) -> None:
    try:
        with closing(backend.connect(query_only=True)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)  # in one step: a copy in several would start again at each commit of the engine
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
            (found,) = copy.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise errors.from_sqlite(error, place=f"{backend.place} or {target}", wait_s=BUSY_WAIT_S) from error
    if found != "ok":
        raise StoreUnavailable(f"the copy of {backend.place} is damaged ({found}): run `remit db check`")
    _sync(target)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _check_file(backend: SqliteBackend) -> list[str]:
    try:
        with closing(backend.connect(query_only=True)) as connection:
            found = [row[0] for row in connection.execute(f"PRAGMA integrity_check({_MOST_PROBLEMS})")]
            problems = [] if found == ["ok"] else [f"the file is damaged: {text}" for text in found]
            for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchmany(_MOST_PROBLEMS):
                problems.append(f"row {row} of {table} belongs to a row of {parent} that is gone")
    except sqlite3.DatabaseError as error:
        problems = [str(backend.translate(error))]
    return problems


_POSTED = Statement(
    sa.select(
        POSTINGS.c.account,
        ledger_entries.c.kind,
        *(ledger_entries.c[unit] for unit in COUNTED),
        ledger_entries.c.reservation,
    )
    .join(ledger_entries, ledger_entries.c.seq == POSTINGS.c.seq)
    .order_by(POSTINGS.c.account)
)
_ENDED = ledger_entries.alias("ended")
_FREED = Statement(
    sa.select(POSTINGS.c.account, _ENDED.c.kind, *(_ENDED.c[unit] for unit in COUNTED))
    .join(_ENDED, _ENDED.c.seq == POSTINGS.c.seq)
    .join(ledger_entries, ledger_entries.c.reservation == _ENDED.c.key)
)
_BALANCES = Statement(
    sa.select(balances.c.account, *(balances.c[f"{held}_{unit}"] for held in HELD for unit in COUNTED))
)
_SUM_OF = {EntryKind.SETTLE: _SPENT, EntryKind.RESERVE: _RESERVED, EntryKind.GRANT: _GRANTED}


def _check_ledger(session: Session) -> list[str]:
    """Add up the entries again and compare with the balances."""
    sums: dict[str, list[Amounts]] = {}
    for account, kind, *amounts, _ in session.stream(_POSTED):
        held = _SUM_OF.get(EntryKind(kind))
        if held is not None:
            _add(sums, account, held, Amounts(*amounts))
    for account, kind, *amounts in session.stream(_FREED):
        _add(sums, account, _SUM_OF[EntryKind(kind)], -Amounts(*amounts))
    problems = []
    size = len(COUNTED)
    for account, *row in session.stream(_BALANCES):
        stored = [Amounts(*row[start : start + size]) for start in range(0, len(row), size)]
        expected = sums.pop(account, [Amounts()] * len(HELD))
        problems += [
            f"the balance of {account} says {held} {stored[i]}, its entries add up to {expected[i]}"
            for i, held in enumerate(HELD)
            if stored[i] != expected[i]
        ]
    problems += [f"the balance of {account} is missing" for account in sorted(sums)]
    return problems


def _add(sums: dict[str, list[Amounts]], account: str, held: int, amounts: Amounts) -> None:
    columns = sums.setdefault(account, [Amounts()] * len(HELD))
    columns[held] = columns[held] + amounts


@contextmanager
def _opened(url: str) -> Iterator[Backend]:
    backend: Backend
    if is_postgres(url):
        backend = postgres_backend(url, read_only=True)
    else:
        path = sqlite_path(url)
        check_file(path)
        backend = SqliteBackend(path, read_only=True)
    try:
        yield backend
    finally:
        backend.close()
