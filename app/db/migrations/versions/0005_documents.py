"""How a document came in: its file, its task, its error."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

COLUMNS = {
    "state": sa.String(16),
    "user_id": sa.String(155),
    "file_name": sa.Text(),
    "object_key": sa.Text(),
    "content_type": sa.String(200),
    "size": sa.BigInteger(),
    "pages": sa.Integer(),
    "task_id": sa.String(155),
    "error_type": sa.String(200),
    "error": sa.Text(),
    "callback_url": sa.Text(),
    "stored_of": sa.DateTime(timezone=True),
}


def upgrade() -> None:
    """Apply; the documents that are there have been processed."""
    for name, kind in COLUMNS.items():
        default = "processed" if name == "state" else None
        op.add_column("documents", sa.Column(name, kind, nullable=default is None, server_default=default))
    op.create_index("ix_documents_user", "documents", ["user_id", "id"])
    op.create_index("ix_documents_state", "documents", ["state", "updated_at"])


def downgrade() -> None:
    """Undo; what has no passages is no document to the version before."""
    op.execute("DELETE FROM documents WHERE passage_count = 0")
    op.drop_index("ix_documents_state", table_name="documents")
    op.drop_index("ix_documents_user", table_name="documents")
    for name in reversed(COLUMNS):
        op.drop_column("documents", name)
