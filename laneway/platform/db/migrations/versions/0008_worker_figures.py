"""The memory and the leases of a worker."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the columns. A worker of an older version reports neither."""
    op.add_column("workers", sa.Column("memory", sa.BigInteger(), nullable=True))
    op.add_column("workers", sa.Column("leases", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("workers", "leases")
    op.drop_column("workers", "memory")
