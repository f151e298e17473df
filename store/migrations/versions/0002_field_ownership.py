"""Objects say who owns which field of their spec."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade():
    op.add_column("objects", sa.Column("ownership", TEXT, nullable=False, server_default=sa.text("''")))


def downgrade():
    op.drop_column("objects", "ownership")
