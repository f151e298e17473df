"""What is PostgreSQL's own: addresses, secrets, servers that go away, lost answers, who hears of what, migrations."""

from __future__ import annotations

import builtins
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from schemas.base import Key
from schemas.errors import AlreadyExists, Fenced, StoreError, StoreLocked, StoreUnavailable
from store import maintenance, migrate, open_store, postgres, postgres_errors, revision, search_hits
from store.contract import Fence, Store, Transaction
from store.postgres_address import is_postgres, parse
from store.search_text import question_of
from store.session import Statement
from store.tables import APPEND_ONLY, metadata
from tests.fakes.cut_line import CutLine
from tests.fakes.engine_process import until
from tests.fakes.postgres import Server, drop_database, empty_database, execute, give_back, store_database
from tests.fakes.stores import ALICE, KEY, CountedIds, SettableClock, apart_from_search, mission, step, steps_in


@pytest.fixture
def url() -> Iterator[str]:
    made = store_database()
    yield made
    give_back(made)


@pytest.fixture
def empty() -> Iterator[str]:
    made = empty_database()
    yield made
    drop_database(made)


def opened(url: str, prefix: str = "id", **options: Any) -> Store:
    return open_store(url, now=SettableClock(), new_id=CountedIds(prefix), **options)


def swallowing(line: CutLine, tx: Transaction) -> None:
    """Begin to write, lose the line, and hide that."""
    tx.create(mission())
    line.cut_all()
    with suppress(StoreError):
        tx.create(mission("b"))


# Addresses and secrets.


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://u:s3cret@db.example:5433/remit", "postgresql://u@db.example:5433/remit"),
        ("postgresql+psycopg://u:s3cret@[::1]:5433/remit", "postgresql://u@::1:5433/remit"),
        ("postgresql://u:s3cret@a:1,b:2/remit?target_session_attrs=read-write", "postgresql://u@a,b:1,2/remit"),
        ("postgresql:///remit?host=/run/postgresql", "postgresql:///run/postgresql/remit"),
        ("postgresql://u@h/remit?password=s3cret", "postgresql://u@h/remit"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, place: str) -> None:
    address = parse(url)
    assert address.place == place
    assert "s3cret" not in repr(address)
    assert not address.parameters.get("password") or "s3cret" not in address.redacted("what libpq says about s3cret")


@pytest.mark.parametrize("tail", ["@h:port/db", "@h/db?nonsense=1", "@h/db?sslmode", "@h/d%00b"])
def test_an_address_that_cannot_be_read_is_refused_and_not_repeated(tail: str) -> None:
    with pytest.raises(StoreUnavailable, match="not a store URL") as caught:
        parse(f"postgresql://u:s3cret{tail}")
    assert "s3cret" not in str(caught.value)


def test_percent_encoding_is_undone() -> None:
    assert parse("postgresql://a%40b:p%2Fw%3A@h/x").parameters["password"] == "p/w:"
    assert parse("postgresql://a%40b:p%2Fw@h/x").parameters["user"] == "a@b"
    assert not is_postgres("sqlite:///x")


def test_a_server_that_is_not_there_is_named_without_the_password() -> None:
    with pytest.raises(StoreUnavailable, match=r"postgresql://u@127\.0\.0\.1:1/db does not answer") as caught:
        opened("postgresql://u:s3cret@127.0.0.1:1/db")
    error: BaseException | None = caught.value
    while error is not None:
        assert "s3cret" not in str(error) + repr(error)
        error = error.__cause__


def test_a_database_that_is_not_there_is_named(url: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"there is no such database: .*nosuch. Make it with `createdb`"):
        opened(url.rpartition("/")[0] + "/nosuch")


def test_without_the_driver_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("psycopg") or name == "store.postgres":
            raise ImportError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(StoreUnavailable, match=r"pip install 'remit\[postgres\]'"):
        opened("postgresql://u@h/db")


def test_an_empty_database_is_no_store_until_an_engine_makes_it_one(empty: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"is empty\. Start the engine"):
        opened(empty)
    opened(empty, create=True).close()
    opened(empty).close()


def test_a_database_of_somebody_else_is_left_alone(empty: str) -> None:
    execute(empty, "CREATE TABLE theirs (id int)")
    with pytest.raises(StoreUnavailable, match="not a Remit store"):
        opened(empty, create=True, exclusive=True)
    assert execute(empty, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(1,)]


def test_engines_that_start_at_once_on_an_empty_database_make_the_tables_once(empty: str) -> None:
    problems: list[BaseException] = []

    def start() -> None:
        try:
            opened(empty, create=True, exclusive=True).close()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # One may have had the tables come up between its two looks; it says so, and the next start works.
    assert all(isinstance(p, StoreUnavailable | StoreLocked) for p in problems), problems
    opened(empty, exclusive=True).close()


# Migrations.


def test_up_down_and_up_again_ends_where_it_began(empty: str) -> None:
    clock = SettableClock()
    opened(empty, create=True).close()
    built = _schema(empty)
    assert migrate.downgrade(empty, "base", now=clock) == ""
    assert {name for kind, name, _ in _schema(empty) if kind == "table"} == {"alembic_version"}
    assert [row for row in _schema(empty) if row[0] == "function"] == []
    assert migrate.upgrade(empty, now=clock) == revision.HEAD
    assert _schema(empty) == built
    store = opened(empty)
    with store.transaction(ALICE) as tx:
        step(tx)
    assert steps_in(store) == 1
    store.close()


def test_the_migrations_build_what_the_tables_module_says(url: str) -> None:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "include_name": apart_from_search})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_the_database_refuses_to_change_or_empty_an_append_only_table(url: str, table: str) -> None:
    store = opened(url)
    with store.transaction(ALICE) as tx:
        step(tx)
    store.close()
    columns = {"events": "message", "event_related": "uid", "ledger_entries": "note", "account_sets": "accounts"}
    column = columns.get(table, "account")
    for statement in (f"UPDATE {table} SET {column} = 'x'", f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
        with pytest.raises(psycopg.errors.RaiseException, match=r"append-only: (UPDATE|DELETE|TRUNCATE) refused"):
            execute(url, statement)


def test_no_migration_runs_under_an_engine(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_MIGRATION_LIMITS", "SET lock_timeout='200ms'")
    engine = opened(url, exclusive=True)
    with pytest.raises(StoreLocked, match="stop every `remit run`"):
        migrate.downgrade(url, "base", now=SettableClock())
    engine.close()
    assert migrate.upgrade(url, now=SettableClock()) == revision.HEAD


def test_a_check_walks_chain_and_ledger_and_a_backup_names_the_tool(url: str, tmp_path: Any) -> None:
    store = opened(url)
    for _ in range(3):
        with store.transaction(ALICE) as tx:
            step(tx)
    store.close()
    report = maintenance.check(url)
    assert (report.ok, report.chain.count) == (True, 3)
    execute(url, "SET session_replication_role = replica; UPDATE events SET message = 'other' WHERE seq = 2")
    report = maintenance.check(url)
    assert report.chain.broken_seq == 2
    with pytest.raises(StoreUnavailable, match="pg_dump"):
        maintenance.backup(url, tmp_path / "x")


# Servers that go away, and answers that are lost.


def test_a_store_goes_on_after_the_server_was_killed_and_came_back() -> None:
    server = Server(durable=True)
    try:
        url = server.url
        store = opened(url, create=True)
        with store.transaction(ALICE) as tx:
            step(tx)
        with store.snapshot(), store.snapshot(), store.snapshot():
            pass  # several connections in the pool
        heard: list[int] = []
        store.subscribe(heard.append)
        server.kill()
        for use in (store.snapshot, lambda: store.transaction(ALICE)):
            with pytest.raises(StoreUnavailable, match=r"does not answer|starting or shutting down"), use():
                pass
        with pytest.raises(StoreUnavailable):
            store.cursor()
        server.start()
        assert steps_in(store) == 1
        with store.transaction(ALICE) as tx:
            step(tx)
        assert steps_in(store) == 2
        other = opened(url, "other")
        with other.transaction(ALICE) as tx:
            tx.create(mission("from elsewhere"))
        until(lambda: other.cursor() in heard, "the listener to hear again")
        other.close()
        store.close()
    finally:
        server.close()


def test_a_connection_that_breaks_midway_loses_the_transaction_and_nothing_else(url: str) -> None:
    with CutLine(url) as line:
        store = opened(line.url)
        with pytest.raises(StoreUnavailable), store.transaction(ALICE) as tx:  # noqa: PT012 - either may notice
            tx.create(mission())
            line.cut_all()
            tx.create(mission("b"))
        with store.snapshot() as snapshot:
            assert snapshot.objects("Mission") == []
        with store.transaction(ALICE) as tx:
            step(tx)
        assert steps_in(store) == 1
        store.close()


def test_a_question_whose_connection_died_in_the_pool_is_asked_again(url: str) -> None:
    with CutLine(url) as line:
        store = opened(line.url)
        with store.transaction(ALICE) as tx:
            tx.create(mission("invoice"))
        while store.index_search(100):
            pass
        with store.snapshot(), store.snapshot(), store.snapshot():
            pass  # several connections in the pool
        line.cut_all()
        assert [hit.name for hit in store.search(question_of("invoice"))] == ["invoice"]
        store.close()


def test_the_server_plans_a_common_question_once(url: str) -> None:
    backend = postgres.PostgresBackend(parse(url))
    for _ in range(20):
        assert search_hits.find(backend, question_of("invoice ns:default kind:mission"), 5) == []
    plans = "SELECT count(*), sum(generic_plans) FROM pg_prepared_statements WHERE statement LIKE '%search_docs%'"
    statements, kept = backend.ask(Statement(sa.text(plans)), {})[0]
    assert kept >= statements > 0
    backend.close()


def test_a_swallowed_error_does_not_let_half_a_transaction_commit(url: str) -> None:
    with CutLine(url) as line:
        store = opened(line.url)
        with pytest.raises(StoreUnavailable, match="lost midway"), store.transaction(ALICE) as tx:
            swallowing(line, tx)
        assert store.cursor() == 0
        store.close()


def test_a_commit_whose_answer_is_lost_is_found_done_when_asked_again(url: str) -> None:
    with CutLine(url) as line:
        store = opened(line.url)
        for n in (1, 2, 3):
            line.cut_answer(b"; COMMIT")
            with pytest.raises(StoreUnavailable), store.transaction(ALICE) as tx:
                assert step(tx) == n
            # Whoever decides again reads first, and finds the work done.
            assert steps_in(store) == n
            with store.transaction(ALICE) as tx:
                assert not tx.enqueue("Count", f"effect-{n}", KEY, {})
        assert line.cuts == 3
        store.close()


def test_the_server_ends_a_writer_that_sleeps_with_the_lock_in_hand_before_its_fellow_gives_up(url: str) -> None:
    """It takes the dozen seconds of the real limits: an engine must not end because another one is frozen."""
    sleeper, other = opened(url, "a"), opened(url, "b")
    with pytest.raises(StoreUnavailable), sleeper.transaction(ALICE) as tx:  # noqa: PT012 - any call may notice
        tx.create(mission("of the sleeper"))
        with other.transaction(ALICE) as theirs:  # waits until the server took the lock from the sleeper
            theirs.create(mission("of the other"))
        tx.create(mission("too late"))
    with other.snapshot() as snapshot:
        assert [r.name for r in snapshot.objects("Mission")] == ["of the other"]
    sleeper.close()
    other.close()


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (psycopg.errors.SerializationFailure("x"), StoreUnavailable, "try again"),
        (psycopg.errors.DeadlockDetected("x"), StoreUnavailable, "deadlock"),
        (psycopg.errors.LockNotAvailable("x"), StoreUnavailable, "write lock"),
        (psycopg.errors.QueryCanceled("x"), StoreUnavailable, "too long"),
        (psycopg.errors.DiskFull("x"), StoreUnavailable, "disk"),
        (psycopg.errors.ReadOnlySqlTransaction("x"), StoreUnavailable, "primary"),
        (psycopg.errors.AdminShutdown("x"), StoreUnavailable, "shutting down"),
        (psycopg.errors.TooManyConnections("x"), StoreUnavailable, "max_connections"),
        (psycopg.errors.InsufficientPrivilege("x"), StoreUnavailable, "own the database"),
        (psycopg.errors.UniqueViolation("x"), AlreadyExists, "x"),
        (psycopg.errors.CheckViolation("x"), StoreError, "refused a write"),
        (psycopg.OperationalError("server closed the connection"), StoreUnavailable, "does not answer"),
    ],
)
def test_errors_of_the_server_become_our_own(error: Exception, kind: type[StoreError], words: str) -> None:
    found = postgres_errors.translate(error, parse("postgresql://u:s3cret@h/db"))
    assert type(found) is kind
    assert words in str(found)


def test_of_two_transactions_that_lock_each_other_out_one_is_refused_and_can_be_done_again(url: str) -> None:
    """A person's session takes a lock that a writer needs, and waits for the writer's: the server ends one of them."""
    store = opened(url)
    with store.transaction(ALICE) as tx:
        tx.set_timer(KEY, "wake", tx.now)
    with psycopg.connect(url) as person:
        person.execute("SET deadlock_timeout = '120s'")  # so that it is the writer that finds the circle
        person.execute("SELECT * FROM timers FOR UPDATE")
        met = threading.Event()

        def waits() -> None:
            met.wait()
            with suppress(psycopg.Error):
                person.execute("SELECT * FROM heads FOR UPDATE")

        waiting = threading.Thread(target=waits)
        waiting.start()
        with pytest.raises(StoreUnavailable, match="deadlock"):
            lock_out(store, url, met)
        waiting.join()
        person.rollback()
    with store.transaction(ALICE) as tx:
        tx.create(mission())
        tx.clear_timer(KEY, "wake")
    assert store.cursor() == 1, "nothing of the refused one is there"
    store.close()


def lock_out(store: Store, url: str, met: threading.Event) -> None:
    """Write, let somebody else wait for that, and ask for what they hold."""
    with store.transaction(ALICE) as tx:
        tx.create(mission())
        met.set()
        until(lambda: blocked(url), "the other session to wait for the writer")
        tx.clear_timer(KEY, "wake")


def blocked(url: str) -> bool:
    """Whether a session waits for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return execute(url, query) != [(0,)]


def test_a_transaction_that_the_server_cannot_put_in_order_is_refused_whole(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of ours asks for that order; a server or pooler whose default is stricter may."""
    monkeypatch.setattr(postgres, "_BEGIN_WRITING", "BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE")
    here, there = opened(url, "a"), opened(url, "b")
    with psycopg.connect(url) as slow:
        slow.execute("SELECT * FROM heads FOR UPDATE")
        refused: list[BaseException] = []

        def write() -> None:
            try:
                with here.transaction(ALICE) as tx:
                    tx.create(mission())
            except StoreError as error:
                refused.append(error)

        writing = threading.Thread(target=write)
        writing.start()
        until(lambda: blocked(url), "the writer to wait")
        slow.execute("UPDATE heads SET pruned_version = pruned_version")
        slow.commit()
        writing.join()
    assert [type(e) for e in refused] == [StoreUnavailable]
    assert "nothing was written, try again" in str(refused[0])
    with here.transaction(ALICE) as tx:
        tx.create(mission())
    assert there.cursor() == 1
    here.close()
    there.close()


def test_too_many_snapshots_at_once_are_refused_in_time_and_then_let_in(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "POOL_WAIT_S", 0.2)
    monkeypatch.setattr(postgres, "_READERS", 1)
    monkeypatch.setattr(postgres, "_MORE_READERS", 1)
    store = opened(url)
    with store.snapshot(), store.snapshot():
        with pytest.raises(StoreUnavailable, match=r"2 snapshots of .* are open at once"), store.snapshot():
            pass
        with store.transaction(ALICE) as tx:  # writing has a connection of its own
            tx.create(mission())
    with store.snapshot() as snapshot:
        assert snapshot.latest_version() == 1
    store.close()


# Who hears of a commit.


def test_another_process_hears_of_a_commit_without_polling(url: str) -> None:
    here, there = opened(url, "a"), opened(url, "b")
    heard: list[int] = []
    there.subscribe(heard.append)
    with here.transaction(ALICE) as tx:
        tx.create(mission())
    until(lambda: heard == [1], lambda: f"[1], heard {heard}")
    with here.transaction(ALICE) as tx:
        tx.get(KEY)  # nothing was written, nobody is told
    with there.transaction(ALICE) as tx:
        tx.create(mission("b"))
    assert heard == [1, 2]
    here.close()
    there.close()


def test_while_nobody_tells_polling_still_sees_every_commit(url: str) -> None:
    with CutLine(url) as line:
        here, there = opened(url, "a"), opened(line.url, "b")
        heard: list[int] = []
        there.subscribe(heard.append)
        line.refuse = True
        line.cut_all()
        with here.transaction(ALICE) as tx:
            tx.create(mission())
        with pytest.raises(StoreUnavailable):
            there.cursor()
        line.refuse = False
        assert there.cursor() == 1
        until(lambda: 1 in heard, "what was missed, once the listener is back")
        here.close()
        there.close()


# Fences between processes.


def test_a_fenced_write_is_refused_inside_its_transaction_by_what_another_process_did(url: str) -> None:
    deposed, successor = opened(url, "a"), opened(url, "b")
    with deposed.transaction(ALICE) as tx:
        lease = tx.acquire_lease("engine/leader", "a", ttl_s=10)
    assert lease is not None
    with successor.transaction(ALICE) as tx:
        tx.release_lease("engine/leader", lease.token)
        assert tx.acquire_lease("engine/leader", "b", ttl_s=10) is not None
    with pytest.raises(Fenced), deposed.transaction(ALICE, fence=Fence("engine/leader", lease.token)) as tx:
        tx.create(mission())
    with successor.snapshot() as snapshot:
        assert snapshot.get(Key("Mission", "default", "a")) is None
    deposed.close()
    successor.close()


def _schema(url: str) -> list[tuple[Any, ...]]:
    return execute(
        url,
        """
        SELECT 'table', tablename::text, '' FROM pg_tables WHERE schemaname = 'public'
        UNION ALL SELECT 'index', indexname::text, indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL SELECT 'trigger', tgname::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT 'check', conname::text, pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT 'function', proname::text, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT 'column', table_name || '.' || column_name, data_type || coalesce(collation_name, '')
            FROM information_schema.columns WHERE table_schema = 'public'
        ORDER BY 1, 2, 3
        """,
    )


def test_a_standby_is_read_and_written_to_once_it_is_the_primary() -> None:
    server = Server(durable=True)
    store = None
    try:
        store = opened(server.url, create=True)
        with store.transaction(ALICE) as tx:
            step(tx)
        server.kill()
        (server.data / "standby.signal").touch()
        server.start()
        until(lambda: _refused_as_standby(store), "a refusal")
        assert steps_in(store) == 1
        assert execute(server.url, "SELECT pg_promote()") == [(True,)]
        until(lambda: _goes_through(store), "a write")
        assert steps_in(store) == 2
    finally:
        if store is not None:
            store.close()
        server.close()


def _refused_as_standby(store: Store) -> bool:
    """Once it is, no later try is anything else."""
    found = []
    for _ in range(3):
        with pytest.raises(StoreUnavailable) as refused, store.transaction(ALICE) as tx:
            step(tx)
        found.append("takes no writes: it is a standby" in str(refused.value))
    return all(found)


def _goes_through(store: Store) -> bool:
    try:
        with store.transaction(ALICE) as tx:
            step(tx)
    except StoreUnavailable:
        return False
    return True
