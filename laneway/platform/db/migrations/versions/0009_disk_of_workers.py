"""The room on the disk of a worker."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column. A worker of an older version does not report it."""
    op.add_column("workers", sa.Column("disk_free", sa.Float(), nullable=True))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("workers", "disk_free")
