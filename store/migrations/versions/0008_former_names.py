"""What the log has about a uid is found by the names of its object, which spares an index over every event."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
NAMES = ("uid", "kind", "namespace", "name")


def upgrade():
    op.create_table(
        "former_names",
        *[sa.Column(name, TEXT, nullable=False) for name in NAMES],
        sa.PrimaryKeyConstraint(*NAMES, name="pk_former_names"),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO former_names (uid, kind, namespace, name)"
        " SELECT DISTINCT subject_uid, subject_kind, subject_namespace, subject_name FROM events"
        " WHERE subject_uid <> '' AND NOT EXISTS (SELECT 1 FROM objects WHERE objects.uid = events.subject_uid"
        " AND objects.kind = events.subject_kind AND objects.namespace = events.subject_namespace"
        " AND objects.name = events.subject_name)"
    )
    op.drop_index("ix_events_subject_uid", "events")


def downgrade():
    op.create_index("ix_events_subject_uid", "events", ["subject_uid"])
    op.drop_table("former_names")
