"""Entries of the ledger name a set of accounts, instead of having a row for each account."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BIGINT = sa.BigInteger()
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TABLES = (
    ("account_sets", "id = NEW.id"),
    ("account_set_members", "account = NEW.account AND account_set = NEW.account_set"),
)


def upgrade():
    # Entries that are there keep their postings: whoever reads looks there for entries without a set.
    op.create_table(
        "account_sets",
        sa.Column("id", SERIAL, nullable=False, autoincrement=False),
        sa.Column("accounts", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_account_sets"),
    )
    op.create_table(
        "account_set_members",
        sa.Column("account", TEXT, nullable=False),
        sa.Column("account_set", BIGINT, nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("account", "account_set", name="pk_account_set_members"),
        sa.ForeignKeyConstraint(["account_set"], ["account_sets.id"], name="fk_account_set_members_account_set"),
        sqlite_with_rowid=False,
    )
    op.add_column("ledger_entries", sa.Column("account_set", BIGINT, nullable=False, server_default=sa.text("0")))
    op.create_index("ix_ledger_entries_account_set", "ledger_entries", ["account_set"])
    for table, unique in TABLES:
        if op.get_context().dialect.name == "sqlite":
            protect_on_sqlite(table, unique)
        else:
            op.execute(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION remit_append_only()"
            )


def protect_on_sqlite(table, unique):
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only: {verb} refused'); END"
        )
    op.execute(
        f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "
        f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {unique}) "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only: overwriting refused'); END"
    )


def downgrade():
    if op.get_context().dialect.name == "sqlite":
        listed = "json_each(s.accounts) AS a"
        columns = "a.value, e.seq, a.key"
    else:
        listed = "json_array_elements_text(CAST(s.accounts AS json)) WITH ORDINALITY AS a(value, nth)"
        columns = "a.value, e.seq, a.nth - 1"
    op.execute(
        f"INSERT INTO ledger_postings (account, seq, place) SELECT {columns} FROM ledger_entries AS e"
        f" JOIN account_sets AS s ON s.id = e.account_set CROSS JOIN {listed}"
    )
    op.drop_index("ix_ledger_entries_account_set", "ledger_entries")
    op.drop_column("ledger_entries", "account_set")
    op.drop_table("account_set_members")
    op.drop_table("account_sets")
