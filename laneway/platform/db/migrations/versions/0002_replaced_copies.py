"""Journal cursors know when the database or the broker was replaced by an older copy."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("journal_cursors", sa.Column("gap_until", sa.String(length=48), nullable=True))
    op.add_column("journal_cursors", sa.Column("replaced", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("journal_cursors", "replaced")
    op.drop_column("journal_cursors", "gap_until")
