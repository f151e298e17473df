"""The tables. Types are only those whose Python values every driver takes and gives unchanged: int, str, bytes, None.

- Moments are whole microseconds since 1970 in UTC: they sort, compare and add alike in every database.
- JSON is canonical text. No query looks inside it, so that SQLite and PostgreSQL need no operators of their own.
- Text sorts by code point in every database, hence the "C" collation on PostgreSQL.
- Nothing is nullable where "" or 0 says the same.

``migrations/versions`` builds these tables; a test compares the two.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BIGINT = sa.BigInteger()
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""A row number. SQLite stores a row under its INTEGER PRIMARY KEY, and only under one that is spelt so."""
BLOB = sa.LargeBinary()


class _Tsvector(sa.types.UserDefinedType[str]):
    """Words with a space between them, as PostgreSQL searches them. Spelt out here, since the dialect takes long to
    import."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "TSVECTOR"


def _text(name: str, *, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(name, TEXT, primary_key=primary_key, nullable=False)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, BIGINT, nullable=nullable)


def _subject() -> tuple[sa.Column[str], ...]:
    return _text("subject_kind"), _text("subject_namespace"), _text("subject_name")


def _sparse(column: str) -> sa.Index:
    """An index over the objects that have this; a query says so, too (``!= ""``), or the index is of no use to it. Its
    script says the same to PostgreSQL; to say it here would import that dialect, which takes long, in every process."""
    return sa.Index(None, column, "kind", "namespace", "name", sqlite_where=sa.text(f"{column} <> ''"))


heads = sa.Table(
    "heads",
    metadata,
    sa.Column("id", SERIAL, primary_key=True, autoincrement=False),
    _number("resource_version"),
    _number("event_seq"),
    _text("event_hash"),
    _number("pruned_version"),
    sa.CheckConstraint("id = 1", name="single"),
)
"""One row: the highest resource_version given out, the end of the event chain, and up to where removals are forgotten.
Every writing transaction locks it first, which puts them in one order."""

objects = sa.Table(
    "objects",
    metadata,
    _text("uid", primary_key=True),
    _text("kind"),
    _text("namespace"),
    _text("name"),
    _number("generation"),
    _number("resource_version"),
    _text("state"),
    _text("owner_uid"),
    _text("unit"),
    _text("manager"),
    _number("created_at"),
    _number("deletion_at", nullable=True),
    _text("labels"),
    _text("annotations"),
    _text("finalizers"),
    _text("provenance"),
    _text("spec"),
    _text("status"),
    sa.Column("ownership", TEXT, nullable=False, server_default=sa.text("''")),
    sa.UniqueConstraint("kind", "namespace", "name"),
    sa.UniqueConstraint("resource_version"),
    sa.Index(None, "kind", "state", "namespace", "name"),
    _sparse("owner_uid"),
    _sparse("unit"),
)
"""Intents, acts and records. ``state`` copies ``status.state``; ``provenance`` and
``ownership`` are "" when there is none."""

specs = sa.Table(
    "specs",
    metadata,
    _text("uid", primary_key=True),
    sa.Column("generation", BIGINT, primary_key=True, autoincrement=False),
    _text("spec"),
    _text("provenance"),
    _text("manager"),
    _number("recorded_at"),
)
"""Every spec of every object, also of objects that are gone; but for the first one of an object whose row was never
written anew but for its status: that one is kept in the row alone."""

tombstones = sa.Table(
    "tombstones",
    metadata,
    sa.Column("resource_version", SERIAL, primary_key=True, autoincrement=False),
    _text("uid"),
    _text("kind"),
    _text("namespace"),
    _text("name"),
    _text("owner_uid"),
)
"""Removed objects, for those who follow changes."""

events = sa.Table(
    "events",
    metadata,
    sa.Column("seq", SERIAL, primary_key=True, autoincrement=False),
    _number("at"),
    _text("type"),
    *_subject(),
    _text("subject_uid"),
    _text("actor_kind"),
    _text("actor_subject"),
    _text("actor_transport"),
    _text("reason"),
    _text("message"),
    _text("data"),
    _text("prev_hash"),
    _text("hash"),
    sa.Index(None, "subject_name", "subject_kind", "subject_namespace"),
)
"""The append-only log; see ``chain`` for what is hashed. Triggers refuse UPDATE, DELETE and overwriting a row. What is
about a uid is found by the names that its object has and had."""

former_names = sa.Table(
    "former_names",
    metadata,
    _text("uid", primary_key=True),
    _text("kind", primary_key=True),
    _text("namespace", primary_key=True),
    _text("name", primary_key=True),
    sqlite_with_rowid=False,
)
"""The keys that objects had which are gone, or bear another one now. Never forgotten, as the log is not."""

event_related = sa.Table(
    "event_related",
    metadata,
    _text("uid", primary_key=True),
    sa.Column("seq", SERIAL, sa.ForeignKey("events.seq"), primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""Which events name a uid in ``data.related``. Derived from ``events``, append-only like it."""

effects = sa.Table(
    "effects",
    metadata,
    _text("id", primary_key=True),
    _text("key"),
    _text("type"),
    *_subject(),
    _text("payload"),
    _text("state"),
    _number("due_at"),
    _number("tries"),
    _number("token"),
    _text("claimed_by"),
    _number("claim_until", nullable=True),
    _number("created_at"),
    _number("done_at", nullable=True),
    _text("last_error"),
    _text("result"),
    sa.UniqueConstraint("key"),
    sa.Index(None, "state", "due_at", "id"),
    sa.Index(None, "subject_name", "subject_kind", "subject_namespace"),
)
"""The outbox. ``result`` is "" when there is none."""

timers = sa.Table(
    "timers",
    metadata,
    _text("kind", primary_key=True),
    _text("namespace", primary_key=True),
    _text("name", primary_key=True),
    _text("purpose", primary_key=True),
    _number("due_at"),
    sa.Index(None, "due_at"),
    sqlite_with_rowid=False,
)
"""The next wake of a key."""

leases = sa.Table(
    "leases",
    metadata,
    _text("name", primary_key=True),
    _text("holder"),
    _number("token"),
    _number("expires_at"),
)
"""Rows stay for ever: a token that was given out must not come back. ``holder`` is "" after a release."""

COUNTED = ("usd_micros", "tokens", "tool_calls", "wall_ms")
"""The columns of ``contract.Amounts``, in its order."""
HELD = ("spent", "reserved", "granted")
"""The three sums of ``contract.Balance``, in its order."""
_LIMIT = 2**62


def _amounts(prefix: str = "") -> list[sa.Column[int]]:
    return [_number(prefix + unit) for unit in COUNTED]


def _within_limits(columns: list[str]) -> list[sa.CheckConstraint]:
    return [sa.CheckConstraint(f"{c} >= 0 AND {c} <= {_LIMIT}", name=f"{c}_range") for c in columns]


ledger_entries = sa.Table(
    "ledger_entries",
    metadata,
    sa.Column("seq", SERIAL, primary_key=True),
    _text("key"),
    _text("kind"),
    *_amounts(),
    _number("at"),
    sa.Column("reservation", TEXT, nullable=True),
    _text("note"),
    sa.Column("account_set", BIGINT, nullable=False, server_default=sa.text("0")),
    *_within_limits(list(COUNTED)),
    sa.UniqueConstraint("key"),
    sa.UniqueConstraint("reservation"),
    sa.Index(None, "account_set"),
)
"""Append-only. ``reservation`` is NULL unless the entry ends one; unique, so that each ends once. ``account_set`` is 0
for an entry of before there were sets: its accounts are in ``ledger_postings``."""

account_sets = sa.Table(
    "account_sets",
    metadata,
    sa.Column("id", SERIAL, primary_key=True, autoincrement=False),
    _text("accounts"),
)
"""The accounts that entries count in, in the entries' order, as a JSON list; ``id`` is a digest of it. Append-only."""

account_set_members = sa.Table(
    "account_set_members",
    metadata,
    _text("account", primary_key=True),
    sa.Column("account_set", BIGINT, sa.ForeignKey("account_sets.id"), primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""Which sets an account is in. Derived from ``account_sets``, append-only like it."""

ledger_postings = sa.Table(
    "ledger_postings",
    metadata,
    _text("account", primary_key=True),
    sa.Column("seq", SERIAL, sa.ForeignKey("ledger_entries.seq"), primary_key=True, autoincrement=False),
    _number("place"),
    sa.Index(None, "seq", "place"),
    sqlite_with_rowid=False,
)
"""The accounts that an older entry counts in, in the entry's order. Append-only."""

reservations = sa.Table(
    "reservations",
    metadata,
    sa.Column("seq", SERIAL, sa.ForeignKey("ledger_entries.seq"), primary_key=True, autoincrement=False),
    _text("key"),
    sa.UniqueConstraint("key"),
)
"""The Reserve entries that are still open."""

_SUMS = [f"{held}_{unit}" for held in HELD for unit in COUNTED]

balances = sa.Table(
    "balances",
    metadata,
    _text("account", primary_key=True),
    *[_number(column) for column in _SUMS],
    *_within_limits(_SUMS),
)
"""What the entries of an account add up to; moved in the same transaction as the entry."""

compile_cache = sa.Table(
    "compile_cache",
    metadata,
    _text("compiler", primary_key=True),
    _text("blob", primary_key=True),
    sa.Column("compiled", BLOB, nullable=False),
)
"""Compiled forms by blob id; may be emptied at any time."""

APPEND_ONLY = ("events", "event_related", "ledger_entries", "ledger_postings", "account_sets", "account_set_members")
"""Tables whose rows the database itself refuses to change or delete."""

search_docs = sa.Table(
    "search_docs",
    metadata,
    sa.Column("id", SERIAL, primary_key=True, autoincrement=False),
    _text("ref"),
    _text("kind"),
    _text("namespace"),
    _text("name"),
    _text("uid"),
    _text("state"),
    _text("agent"),
    _number("at"),
    _text("digest"),
    _text("title_words"),
    sa.Column("words", sa.Text().with_variant(_Tsvector(), "postgresql"), nullable=False),
    sa.UniqueConstraint("ref"),
)
"""What can be searched: an object (``ref`` is its uid) or a row of the log (``event/<seq>``). ``id`` grows with every
text that is new. ``words`` holds those of the title, too. The index over them is a virtual table ``search_text`` in
SQLite, two GIN indexes and one over namespace and id in PostgreSQL. Derived: it may be emptied at any time, together
with ``search_cursor``."""

search_cursor = sa.Table(
    "search_cursor",
    metadata,
    sa.Column("id", SERIAL, primary_key=True, autoincrement=False),
    _number("resource_version"),
    _number("event_seq"),
)
"""Up to where objects and the log are in ``search_docs``; no row means from the start."""
