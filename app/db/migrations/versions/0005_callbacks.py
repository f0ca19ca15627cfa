"""Endpoints of outbound webhooks, their secrets, and the log of deliveries."""

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Apply."""


def downgrade() -> None:
    """Undo."""
