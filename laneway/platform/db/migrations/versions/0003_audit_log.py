"""The audit log, with triggers that keep its entries as they are."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

KEPT = (
    *("seq", "at", "caller_kind", "caller_name", "tenant", "request_id", "action", "object_kind"),
    *("digest", "previous", "hash"),
)
ERASABLE = ("object_id", '"before"', '"after"', "salt")
REFUSAL = "the audit log is append-only"


def upgrade() -> None:
    """Create the tables and the triggers."""
    op.create_table(
        "audit_log",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("caller_kind", sa.String(length=16), nullable=False),
        sa.Column("caller_name", sa.String(length=200), nullable=False),
        sa.Column("tenant", sa.String(length=200), nullable=True),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("object_kind", sa.String(length=32), nullable=False),
        sa.Column("object_id", sa.String(length=200), nullable=True),
        sa.Column("before", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("after", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("salt", sa.String(length=32), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("ix_audit_log_object", "audit_log", ["object_kind", "object_id"])
    op.create_index("ix_audit_log_action", "audit_log", ["action", "seq"])
    op.create_table(
        "audit_log_head",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in _sqlite_triggers() if is_sqlite else _postgresql_triggers():
        op.execute(statement)


def downgrade() -> None:
    """Drop the tables, with their triggers."""
    op.drop_table("audit_log_head")
    op.drop_index("ix_audit_log_action", table_name="audit_log")
    op.drop_index("ix_audit_log_object", table_name="audit_log")
    op.drop_table("audit_log")
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION laneway_refuse_audit_change()")


def _columns(row: str) -> str:
    return ", ".join(f"{row}.{column}" for column in KEPT)


def _is_erasure() -> str:
    return " AND ".join(f"NEW.{column} IS NULL" for column in ERASABLE)


def _sqlite_triggers() -> list[str]:
    refuse = f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
    unchanged = f"({_columns('NEW')}) IS ({_columns('OLD')})"
    return [
        f"CREATE TRIGGER audit_log_not_deleted BEFORE DELETE ON audit_log {refuse}",
        f"CREATE TRIGGER audit_log_not_changed BEFORE UPDATE ON audit_log "
        f"WHEN NOT ({unchanged} AND {_is_erasure()}) {refuse}",
    ]


def _postgresql_triggers() -> list[str]:
    unchanged = f"ROW({_columns('NEW')}) IS NOT DISTINCT FROM ROW({_columns('OLD')})"
    run = "EXECUTE FUNCTION laneway_refuse_audit_change()"
    return [
        "CREATE FUNCTION laneway_refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$BEGIN RAISE EXCEPTION '{REFUSAL}'; END$$",
        f"CREATE TRIGGER audit_log_not_deleted BEFORE DELETE ON audit_log FOR EACH ROW {run}",
        f"CREATE TRIGGER audit_log_not_emptied BEFORE TRUNCATE ON audit_log FOR EACH STATEMENT {run}",
        f"CREATE TRIGGER audit_log_not_changed BEFORE UPDATE ON audit_log FOR EACH ROW "
        f"WHEN (NOT ({unchanged} AND {_is_erasure()})) {run}",
    ]
