"""Endpoints of outbound webhooks, and the log of deliveries with their attempts."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Apply."""
    _create_endpoints()
    _create_deliveries()
    op.create_table(
        "callback_attempts",
        sa.Column("delivery_id", sa.String(155), sa.ForeignKey("callback_deliveries.id", ondelete="CASCADE"),
                  primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("endpoint_id", sa.String(32), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("error_type", sa.String(200), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("request_headers", sa.JSON(), nullable=False),
    )  # fmt: skip
    op.create_index("ix_callback_attempts_running", "callback_attempts", ["endpoint_id", "ended_at"])


def _create_endpoints() -> None:
    op.create_table(
        "callback_endpoints",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("consecutive_failures", sa.Integer(), nullable=False),
        sa.Column("failing_since", MOMENT, nullable=True),
        sa.Column("last_failure_at", MOMENT, nullable=True),
        sa.Column("last_success_at", MOMENT, nullable=True),
        sa.Column("disabled_at", MOMENT, nullable=True),
        sa.Column("reason", sa.String(16), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
    )
    op.create_index("ix_callback_endpoints_seen_at", "callback_endpoints", ["seen_at"])


def _create_deliveries() -> None:
    op.create_table(
        "callback_deliveries",
        sa.Column("seq", ID, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(155), nullable=False, unique=True),
        sa.Column("endpoint_id", sa.String(32), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("event", sa.String(100), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("put_off", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("occurred_at", MOMENT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("touched_at", MOMENT, nullable=False),
    )
    op.create_index("ix_callback_deliveries_endpoint", "callback_deliveries", ["endpoint_id", "seq"])
    op.create_index("ix_callback_deliveries_created", "callback_deliveries", ["created_at"])
    op.create_index("ix_callback_deliveries_touched", "callback_deliveries", ["touched_at"])


def downgrade() -> None:
    """Undo."""
    for table in ("callback_attempts", "callback_deliveries", "callback_endpoints"):
        op.drop_table(table)
