"""What people search for: one row a document, and an index over its words."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BIGINT = sa.BigInteger()
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def text(*names):
    return [sa.Column(name, TEXT, nullable=False) for name in names]


def upgrade():
    op.create_table(
        "search_docs",
        sa.Column("id", SERIAL, nullable=False, autoincrement=False),
        *text("ref", "kind", "namespace", "name", "uid", "state", "agent"),
        sa.Column("at", BIGINT, nullable=False),
        *text("digest", "title_words", "words"),
        sa.PrimaryKeyConstraint("id", name="pk_search_docs"),
        sa.UniqueConstraint("ref", name="uq_search_docs_ref"),
    )
    op.create_table(
        "search_cursor",
        sa.Column("id", SERIAL, nullable=False, autoincrement=False),
        sa.Column("resource_version", BIGINT, nullable=False),
        sa.Column("event_seq", BIGINT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_search_cursor"),
    )
    if op.get_context().dialect.name == "sqlite":
        op.execute(
            "CREATE VIRTUAL TABLE search_text USING fts5(title_words, words, content='search_docs', content_rowid='id',"
            " detail='column', tokenize='unicode61 remove_diacritics 0')"
        )
    else:
        for column in ("title_words", "words"):
            op.execute(
                f"CREATE INDEX search_text_{column} ON search_docs"
                f" USING gin (array_to_tsvector(string_to_array({column}, ' ')))"
            )


def downgrade():
    if op.get_context().dialect.name == "sqlite":
        op.execute("DROP TABLE search_text")
    op.drop_table("search_cursor")
    op.drop_table("search_docs")
