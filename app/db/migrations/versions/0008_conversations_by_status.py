"""An index for lists of conversations of one status."""

from alembic import op

revision = "0008"
down_revision = "0001"


def upgrade() -> None:
    """Create the index."""
    op.create_index("ix_conversations_status", "conversations", ["status", "updated_at"], unique=False)


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_conversations_status", table_name="conversations")
