"""Search finds the newest of a tenant by walking its index: titles before texts, newest first in either."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TEXTS = 1 << 40
PLAIN_TITLES = "UPDATE search_docs SET title_words = substr(replace(' ' || title_words, ' zt', ' '), 2)"


def upgrade():
    op.execute(PLAIN_TITLES)
    if op.get_context().dialect.name == "sqlite":
        op.execute("DROP TABLE search_text")
        op.execute(
            "CREATE VIRTUAL TABLE search_text USING fts5(words, content='', columnsize=0, detail='none',"
            " tokenize='unicode61 remove_diacritics 0')"
        )
        for column, start in (("title_words", TEXTS), ("words", 2 * TEXTS)):
            op.execute(
                f"INSERT INTO search_text(rowid, words) SELECT {start} - id, {column} FROM search_docs ORDER BY id DESC"
            )
    else:
        op.execute("DROP INDEX search_text_words")
        op.execute(
            "ALTER TABLE search_docs ALTER COLUMN words TYPE tsvector"
            " USING array_to_tsvector(array_remove(string_to_array(words, ' '), ''))"
        )
        op.execute("CREATE INDEX search_text_words ON search_docs USING gin (words)")
        op.execute("CREATE INDEX search_text_newest ON search_docs (namespace, id)")


def downgrade():
    # What older versions search is made anew by them.
    op.execute("DELETE FROM search_cursor")
    op.execute("DELETE FROM search_docs")
    if op.get_context().dialect.name == "sqlite":
        op.execute("DROP TABLE search_text")
        op.execute(
            "CREATE VIRTUAL TABLE search_text USING fts5(title_words, words, content='search_docs', content_rowid='id',"
            " detail='column', tokenize='unicode61 remove_diacritics 0')"
        )
    else:
        op.execute("DROP INDEX search_text_newest")
        op.execute("DROP INDEX search_text_words")
        op.execute("ALTER TABLE search_docs ALTER COLUMN words TYPE text COLLATE \"C\" USING ''")
        op.execute(
            "CREATE INDEX search_text_words ON search_docs USING gin (array_to_tsvector(string_to_array(words, ' ')))"
        )
