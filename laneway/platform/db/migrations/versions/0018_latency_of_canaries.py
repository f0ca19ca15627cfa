"""Samples of queues keep how long canaries took."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Add the column. A process of an older version stores samples without it."""
    op.add_column("queue_samples", sa.Column("canary_ms", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("queue_samples", "canary_ms")
