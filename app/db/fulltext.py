"""The full-text index over the passages, in the form that each database offers; the migration creates it.

A passage is indexed by its `search_text`, or by its text if it has none.

SQLite: an FTS5 table without a copy of the text; triggers keep it up to date. PostgreSQL: a generated column, so that
ranking does not parse every passage again, with a GIN index. Both stem English: "refunds" finds "refund".
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

FTS_TABLE: Final = "passages_fts"
"""SQLite's index; its rowid is the passage's id."""
FTS_CONTENT: Final = f"{FTS_TABLE}_content_view"
"""The view from which SQLite's index is filled."""
SEARCH_COLUMN: Final = "search"
"""PostgreSQL's column of type tsvector in `passages`."""
SEARCH_INDEX: Final = "ix_passages_search"

_INDEXED = "coalesce({0}search_text, {0}text)"
_NEW, _OLD = _INDEXED.format("new."), _INDEXED.format("old.")
_TO_INDEX = f"INSERT INTO {FTS_TABLE}(rowid, text) VALUES (new.id, {_NEW});"  # noqa: S608 - constants only
_FROM_INDEX = f"INSERT INTO {FTS_TABLE}({FTS_TABLE}, rowid, text) VALUES ('delete', old.id, {_OLD});"  # noqa: S608

_TRIGGERS: Final = {
    f"{FTS_TABLE}_insert": f"AFTER INSERT ON passages BEGIN {_TO_INDEX} END",
    f"{FTS_TABLE}_delete": f"AFTER DELETE ON passages BEGIN {_FROM_INDEX} END",
    f"{FTS_TABLE}_update": f"AFTER UPDATE OF id, text, search_text ON passages BEGIN {_FROM_INDEX} {_TO_INDEX} END",
}

_SQLITE_CREATE: Final = (
    f"CREATE VIEW {FTS_CONTENT} AS SELECT id, {_INDEXED.format('')} AS text FROM passages",  # noqa: S608
    f"CREATE VIRTUAL TABLE {FTS_TABLE} USING fts5(text, content='{FTS_CONTENT}', content_rowid='id', "
    "tokenize='porter unicode61 remove_diacritics 2')",
    *(f"CREATE TRIGGER {name} {body}" for name, body in _TRIGGERS.items()),
    f"INSERT INTO {FTS_TABLE}({FTS_TABLE}) VALUES ('rebuild')",  # noqa: S608
)
_SQLITE_DROP: Final = (
    *(f"DROP TRIGGER IF EXISTS {name}" for name in _TRIGGERS),
    f"DROP TABLE IF EXISTS {FTS_TABLE}",
    f"DROP VIEW IF EXISTS {FTS_CONTENT}",
)

_POSTGRESQL_CREATE: Final = (
    f"ALTER TABLE passages ADD COLUMN {SEARCH_COLUMN} tsvector "
    "GENERATED ALWAYS AS (to_tsvector('english', coalesce(search_text, text))) STORED",
    f"CREATE INDEX {SEARCH_INDEX} ON passages USING gin ({SEARCH_COLUMN})",
)
_POSTGRESQL_DROP: Final = (
    f"DROP INDEX IF EXISTS {SEARCH_INDEX}",
    f"ALTER TABLE passages DROP COLUMN IF EXISTS {SEARCH_COLUMN}",
)


def create_index(connection: Connection) -> None:
    """Create the index and fill it from the stored passages."""
    _run(connection, sqlite=_SQLITE_CREATE, postgresql=_POSTGRESQL_CREATE)


def drop_index(connection: Connection) -> None:
    """Remove the index; the passages stay."""
    _run(connection, sqlite=_SQLITE_DROP, postgresql=_POSTGRESQL_DROP)


def is_index_object(name: str | None) -> bool:
    """Whether a table, column or index belongs to the full-text index, which the models do not describe.

    Use it as Alembic's `include_name` when comparing the database with the models.
    """
    return name is not None and (name in {SEARCH_COLUMN, SEARCH_INDEX} or name.startswith(FTS_TABLE))


def _run(connection: Connection, *, sqlite: tuple[str, ...], postgresql: tuple[str, ...]) -> None:
    for statement in sqlite if connection.dialect.name == "sqlite" else postgresql:
        connection.exec_driver_sql(statement)
