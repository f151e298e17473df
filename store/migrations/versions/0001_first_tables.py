"""The first tables: objects with every spec, events, outbox, timers, leases, ledger, compile cache."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
GENESIS = "0" * 64
COUNTED = ("usd_micros", "tokens", "tool_calls", "wall_ms")
SUMS = [f"{held}_{unit}" for held in ("spent", "reserved", "granted") for unit in COUNTED]
APPEND_ONLY = ("events", "event_related", "ledger_entries", "ledger_postings")


def text(*names):
    return [sa.Column(name, TEXT, nullable=False) for name in names]


def number(*names, nullable=False):
    return [sa.Column(name, sa.BigInteger(), nullable=nullable) for name in names]


def serial(name, **kwargs):
    return sa.Column(name, SERIAL, nullable=False, autoincrement=False, **kwargs)


def within_limits(table, columns):
    return [
        sa.CheckConstraint(f"{c} >= 0 AND {c} <= {2**62}", name=op.f(f"ck_{table}_{c}_range")) for c in columns
    ]


def upgrade():
    heads = op.create_table(
        "heads",
        serial("id"),
        *number("resource_version", "event_seq"),
        *text("event_hash"),
        *number("pruned_version"),
        sa.PrimaryKeyConstraint("id", name="pk_heads"),
        sa.CheckConstraint("id = 1", name=op.f("ck_heads_single")),
    )
    op.bulk_insert(
        heads, [{"id": 1, "resource_version": 0, "event_seq": 0, "event_hash": GENESIS, "pruned_version": 0}]
    )

    op.create_table(
        "objects",
        *text("uid", "kind", "namespace", "name"),
        *number("generation", "resource_version"),
        *text("state", "owner_uid", "unit", "manager"),
        *number("created_at"),
        *number("deletion_at", nullable=True),
        *text("labels", "annotations", "finalizers", "provenance", "spec", "status"),
        sa.PrimaryKeyConstraint("uid", name="pk_objects"),
        sa.UniqueConstraint("kind", "namespace", "name", name="uq_objects_kind_namespace_name"),
        sa.UniqueConstraint("resource_version", name="uq_objects_resource_version"),
    )
    op.create_index("ix_objects_kind_state_namespace_name", "objects", ["kind", "state", "namespace", "name"])
    op.create_index(
        "ix_objects_owner_uid_kind_namespace_name", "objects", ["owner_uid", "kind", "namespace", "name"]
    )
    op.create_index("ix_objects_unit_kind_namespace_name", "objects", ["unit", "kind", "namespace", "name"])

    op.create_table(
        "specs",
        *text("uid"),
        *number("generation"),
        *text("spec", "provenance", "manager"),
        *number("recorded_at"),
        sa.PrimaryKeyConstraint("uid", "generation", name="pk_specs"),
    )

    op.create_table(
        "tombstones",
        serial("resource_version"),
        *text("uid", "kind", "namespace", "name", "owner_uid"),
        sa.PrimaryKeyConstraint("resource_version", name="pk_tombstones"),
    )

    op.create_table(
        "events",
        serial("seq"),
        *number("at"),
        *text("type", "subject_kind", "subject_namespace", "subject_name", "subject_uid"),
        *text("actor_kind", "actor_subject", "actor_transport", "reason", "message", "data", "prev_hash", "hash"),
        sa.PrimaryKeyConstraint("seq", name="pk_events"),
    )
    op.create_index("ix_events_subject_uid", "events", ["subject_uid"])
    op.create_index(
        "ix_events_subject_name_subject_kind_subject_namespace",
        "events",
        ["subject_name", "subject_kind", "subject_namespace"],
    )

    op.create_table(
        "event_related",
        *text("uid"),
        serial("seq"),
        sa.PrimaryKeyConstraint("uid", "seq", name="pk_event_related"),
        sa.ForeignKeyConstraint(["seq"], ["events.seq"], name="fk_event_related_seq"),
        sqlite_with_rowid=False,
    )

    op.create_table(
        "effects",
        *text("id", "key", "type", "subject_kind", "subject_namespace", "subject_name", "payload", "state"),
        *number("due_at", "tries", "token"),
        *text("claimed_by"),
        *number("claim_until", nullable=True),
        *number("created_at"),
        *number("done_at", nullable=True),
        *text("last_error", "result"),
        sa.PrimaryKeyConstraint("id", name="pk_effects"),
        sa.UniqueConstraint("key", name="uq_effects_key"),
    )
    op.create_index("ix_effects_state_due_at_id", "effects", ["state", "due_at", "id"])
    op.create_index(
        "ix_effects_subject_name_subject_kind_subject_namespace",
        "effects",
        ["subject_name", "subject_kind", "subject_namespace"],
    )

    op.create_table(
        "timers",
        *text("kind", "namespace", "name", "purpose"),
        *number("due_at"),
        sa.PrimaryKeyConstraint("kind", "namespace", "name", "purpose", name="pk_timers"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_timers_due_at", "timers", ["due_at"])

    op.create_table(
        "leases",
        *text("name", "holder"),
        *number("token", "expires_at"),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )

    op.create_table(
        "ledger_entries",
        sa.Column("seq", SERIAL, nullable=False, autoincrement=True),
        *text("key", "kind"),
        *number(*COUNTED),
        *number("at"),
        sa.Column("reservation", TEXT, nullable=True),
        *text("note"),
        sa.PrimaryKeyConstraint("seq", name="pk_ledger_entries"),
        sa.UniqueConstraint("key", name="uq_ledger_entries_key"),
        sa.UniqueConstraint("reservation", name="uq_ledger_entries_reservation"),
        *within_limits("ledger_entries", COUNTED),
    )
    op.create_table(
        "ledger_postings",
        *text("account"),
        serial("seq"),
        *number("place"),
        sa.PrimaryKeyConstraint("account", "seq", name="pk_ledger_postings"),
        sa.ForeignKeyConstraint(["seq"], ["ledger_entries.seq"], name="fk_ledger_postings_seq"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_ledger_postings_seq_place", "ledger_postings", ["seq", "place"])
    op.create_table(
        "reservations",
        serial("seq"),
        *text("key"),
        sa.PrimaryKeyConstraint("seq", name="pk_reservations"),
        sa.ForeignKeyConstraint(["seq"], ["ledger_entries.seq"], name="fk_reservations_seq"),
        sa.UniqueConstraint("key", name="uq_reservations_key"),
    )
    op.create_table(
        "balances",
        *text("account"),
        *number(*SUMS),
        sa.PrimaryKeyConstraint("account", name="pk_balances"),
        *within_limits("balances", SUMS),
    )

    op.create_table(
        "compile_cache",
        *text("compiler", "blob"),
        sa.Column("compiled", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("compiler", "blob", name="pk_compile_cache"),
    )

    if op.get_context().dialect.name == "sqlite":
        protect_on_sqlite()
    else:
        protect_on_postgresql()


def protect_on_sqlite():
    for table in APPEND_ONLY:
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only: {verb} refused'); END"
            )
    # INSERT OR REPLACE deletes the old row without firing its DELETE trigger.
    for table, unique in (
        ("events", "seq = NEW.seq"),
        ("event_related", "uid = NEW.uid AND seq = NEW.seq"),
        ("ledger_entries", "seq = NEW.seq OR key = NEW.key OR reservation = NEW.reservation"),
        ("ledger_postings", "account = NEW.account AND seq = NEW.seq"),
    ):
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {unique}) "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only: overwriting refused'); END"
        )


def protect_on_postgresql():
    # No per cent sign: drivers take it for a parameter.
    op.execute(
        "CREATE FUNCTION remit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append-only: ' || TG_OP || ' refused'; END $$"
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION remit_append_only()"
        )


def downgrade():
    for table in (
        "compile_cache",
        "balances",
        "reservations",
        "ledger_postings",
        "ledger_entries",
        "leases",
        "timers",
        "effects",
        "event_related",
        "events",
        "tombstones",
        "specs",
        "objects",
        "heads",
    ):
        op.drop_table(table)
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION remit_append_only()")
