"""Alembic's entry: runs the migrations on the connection that `app.db.migrate` hands over."""

from typing import Any, Literal

from alembic import context

from app.db.models import Base, UtcDateTime


def _render(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_item=_render
)
context.run_migrations()
