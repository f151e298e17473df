"""The SQL itself: it compiles for PostgreSQL too, locks rows there, and never scans a table that grows."""

from __future__ import annotations

import importlib
import itertools
import pkgutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy.dialects import postgresql

import store as package
from store import cache, events, ledger, objects, outbox
from store.contract import EffectState
from store.session import Statement
from store.sqlite import DIALECT
from tests.fakes.stores import SqliteHarness

POSTGRESQL = postgresql.dialect()
BOTH = (False, True)
MAYBE = (None, False, True)
"""Not asked for, asked for as "", asked for as something."""
MAY_SCAN = {
    "maintenance._POSTED",  # the check adds up the whole ledger
    "maintenance._FREED",
    "maintenance._BALANCES",
    "cache._FORGET_OTHERS",  # once per version of the compiler
    "ledger._ALL",  # in the order of its rows, stops at the limit
    "ledger._ALL_OPEN",  # few are open at a time
    "timers._LIST",  # in the order of its index, stops at the limit
    "outbox.select",  # without a filter, for people; sorted
    "outbox._WAITING_TYPES",  # what an index found, 256 rows at most
    "search._CURSOR",  # one row
    "search._ANY",  # the first row
}


def statements() -> Iterator[tuple[str, Statement]]:
    """Every statement of the store by name, with every combination of filters."""
    for module in pkgutil.iter_modules(package.__path__):
        if module.name == "migrations":
            continue
        for name, value in vars(importlib.import_module(f"store.{module.name}")).items():
            for found in value.values() if isinstance(value, dict) else [value]:
                if isinstance(found, Statement):
                    yield f"{module.name}.{name}", found
    filters = ("namespace", "owner", "unit", "after", "limit")
    for chosen in itertools.product(BOTH, MAYBE, MAYBE, BOTH, BOTH):
        for states, labels in itertools.product((0, 1, 2), (0, 2)):
            given = dict(zip(filters, chosen, strict=True))
            yield "objects.select", objects._select(count=False, states=states, labels=labels, **given)
    for namespace, owner, states in itertools.product(BOTH, MAYBE, (0, 1, 2)):
        given = {"namespace": namespace, "owner": owner, "unit": None, "after": False, "limit": False}
        yield "objects.count", objects._select(count=True, states=states, labels=0, **given)
    yield "objects.named", objects._get_named(4)
    filters = ("before", "uid", "subject", "namespace", "since", "newest_first")
    for chosen in itertools.product(BOTH, repeat=len(filters)):
        for types in (0, 1, 2):
            yield "events.select", events._select(types=types, **dict(zip(filters, chosen, strict=True)))
    for state in (EffectState.PENDING, EffectState.CLAIMED):
        yield "outbox.due", outbox._due(state, 3)
    for states, subject, type_ in itertools.product((0, 2), BOTH, BOTH):
        yield "outbox.select", outbox._select(states=states, subject=subject, type_=type_)
    yield "ledger.accounts", ledger._accounts_of(4)
    yield "cache.select", cache._select(4)


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    harness = SqliteHarness(tmp_path_factory.mktemp("store"))
    harness.open().close()
    with closing(sqlite3.connect(harness.path)) as opened:
        yield opened


def test_every_statement_is_one_that_sqlite_and_postgresql_understand(connection: sqlite3.Connection) -> None:
    count = 0
    for name, statement in statements():
        sql = statement.sql(DIALECT)
        connection.execute(f"EXPLAIN {sql}", [1] * sql.count("?"))
        assert statement.sql(POSTGRESQL), name
        count += 1
    assert count > 400


def test_rows_that_decide_are_locked_where_the_database_does_not_lock_everything() -> None:
    locking = {name for name, statement in statements() if "FOR UPDATE" in statement.sql(POSTGRESQL)}
    assert locking == {"heads._LOCK", "leases._LOCK", "outbox.due"}
    for name, statement in statements():
        if name == "outbox.due":
            assert statement.sql(POSTGRESQL).endswith("FOR UPDATE SKIP LOCKED")
        assert "FOR UPDATE" not in statement.sql(DIALECT)


def test_nothing_is_found_by_looking_at_every_row(connection: sqlite3.Connection) -> None:
    scanned = {}
    for name, statement in statements():
        sql = statement.sql(DIALECT)
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", [1] * sql.count("?"))]
        if name not in MAY_SCAN and any(step.startswith("SCAN ") for step in plan):
            scanned[sql] = plan
    assert scanned == {}


@pytest.mark.parametrize("name", ["objects.select", "events.select", "outbox.due", "changes._SINCE", "timers._DUE"])
def test_lists_come_in_order_from_an_index_and_are_not_sorted(connection: sqlite3.Connection, name: str) -> None:
    for found, statement in statements():
        sql = statement.sql(DIALECT)
        if found == name and "state IN (?, ?)" not in sql and "claim_until <=" not in sql:
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", [1] * sql.count("?"))]
            assert not any("FOR ORDER BY" in step for step in plan), (sql, plan)
