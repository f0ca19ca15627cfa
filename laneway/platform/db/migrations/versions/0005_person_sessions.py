"""Sessions of people."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "person_sessions",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("person", sa.String(length=255), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("ix_person_sessions_person", "person_sessions", ["person"], unique=False)
    op.create_index("ix_person_sessions_began_at", "person_sessions", ["began_at"], unique=False)


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_person_sessions_began_at", table_name="person_sessions")
    op.drop_index("ix_person_sessions_person", table_name="person_sessions")
    op.drop_table("person_sessions")
