"""Leads with ids, versions and what the CRM was told of them; the local CRM."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

ADDED = (
    "lead_id", "uid", "fingerprint", "version", "updated_at", "crm_state", "crm_id", "crm_version", "crm_synced_at",
    "crm_error", "crm_request",
)  # fmt: skip
INDEXES = {"ix_leads_lead_id": ["lead_id"], "ix_leads_uid": ["uid"]}


def upgrade() -> None:
    """Apply; leads that were there get ids made of their numbers, and nobody has told a CRM of them."""
    with op.batch_alter_table("leads") as table:
        table.alter_column("source_id", type_=sa.String(300), existing_nullable=False)
        table.add_column(sa.Column("lead_id", sa.String(128), nullable=True))
        table.add_column(sa.Column("uid", sa.String(40), nullable=True))
        table.add_column(sa.Column("fingerprint", sa.String(64), nullable=False, server_default=""))
        table.add_column(sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
        table.add_column(sa.Column("updated_at", sa.DateTime(timezone=True), nullable=True))
        table.add_column(sa.Column("crm_state", sa.String(16), nullable=False, server_default="unsent"))
        table.add_column(sa.Column("crm_id", sa.String(200), nullable=True))
        table.add_column(sa.Column("crm_version", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("crm_synced_at", sa.DateTime(timezone=True), nullable=True))
        table.add_column(sa.Column("crm_error", sa.Text(), nullable=True))
        table.add_column(sa.Column("crm_request", sa.JSON(), nullable=True))
    name = "'lead-' || CAST(id AS VARCHAR(20))"
    op.execute(f"UPDATE leads SET lead_id = {name}, uid = {name}, updated_at = created_at")  # noqa: S608  a constant
    with op.batch_alter_table("leads") as table:
        for column, kind in (("lead_id", sa.String(128)), ("uid", sa.String(40)),
                             ("updated_at", sa.DateTime(timezone=True))):  # fmt: skip
            table.alter_column(column, existing_type=kind, nullable=False)
    _add_indexes_and_records()


def _add_indexes_and_records() -> None:
    for index, columns in INDEXES.items():
        op.create_index(index, "leads", columns, unique=True)
    op.create_index("ix_leads_updated_at", "leads", ["updated_at"])
    op.create_index("ix_leads_crm_state", "leads", ["crm_state", "id"])
    op.create_table(
        "crm_records",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("lead_uid", sa.String(40), sa.ForeignKey("leads.uid", ondelete="CASCADE"), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_crm_records_lead_uid", "crm_records", ["lead_uid"], unique=True)


def downgrade() -> None:
    """Undo; leads that the version before could not hold (an id of their source over 200 characters) go."""
    op.drop_table("crm_records")
    for index in (*INDEXES, "ix_leads_updated_at", "ix_leads_crm_state"):
        op.drop_index(index, table_name="leads")
    op.execute("DELETE FROM leads WHERE length(source_id) > 200")
    with op.batch_alter_table("leads") as table:
        table.alter_column("source_id", type_=sa.String(200), existing_nullable=False)
        for column in ADDED:
            table.drop_column(column)
