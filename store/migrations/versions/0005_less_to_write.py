"""Indexes over owners and units leave out objects without; a first spec is kept in its object's row alone."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0003"
branch_labels = None
depends_on = None

SPARSE = ("owner_uid", "unit")


def upgrade():
    # Specs that are kept already stay: whoever reads looks there first.
    for column in SPARSE:
        there = sa.text(f"{column} <> ''")
        index(column, sqlite_where=there, postgresql_where=there)


def downgrade():
    op.execute(
        "INSERT INTO specs (uid, generation, spec, provenance, manager, recorded_at)"
        " SELECT uid, generation, spec, provenance, manager, created_at FROM objects WHERE generation = 1"
        " AND NOT EXISTS (SELECT 1 FROM specs WHERE specs.uid = objects.uid AND specs.generation = 1)"
    )
    for column in SPARSE:
        index(column)


def index(column, **options):
    name = f"ix_objects_{column}_kind_namespace_name"
    op.drop_index(name, "objects")
    op.create_index(name, "objects", [column, "kind", "namespace", "name"], **options)
