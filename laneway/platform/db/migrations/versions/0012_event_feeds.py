"""What the feeds of events need: marks of events, the order of ids, and destinations that get events of tasks."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_FUNCTION = """
CREATE FUNCTION laneway_announce_events() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE newest bigint;
BEGIN
  IF current_setting('laneway.events_announced', true) IS DISTINCT FROM 'yes' THEN
    EXECUTE format('SELECT coalesce(max(seq), 0) FROM %s', TG_RELID::regclass) INTO newest;
    PERFORM pg_advisory_xact_lock_shared(((TG_RELID::bigint & 32767) << 48) | newest);
    PERFORM set_config('laneway.events_announced', 'yes', true);
  END IF;
  RETURN NULL;
END $$
"""
"""The first insert of a transaction takes a lock that says: all ids of this transaction are above this one.

The lock keeps nobody waiting. It and the setting end with the transaction, or with the savepoint that is rolled back.
"""
_TRIGGER = (
    "CREATE TRIGGER laneway_announce_events BEFORE INSERT ON task_events "
    "FOR EACH STATEMENT EXECUTE FUNCTION laneway_announce_events()"
)
_SQLITE_TRIGGER = """
CREATE TRIGGER laneway_newest_event AFTER DELETE ON task_events
WHEN OLD.seq > (SELECT coalesce(max(seq), 0) FROM task_events)
BEGIN
  INSERT INTO event_marks (name, seq) VALUES ('newest', OLD.seq)
  ON CONFLICT (name) DO UPDATE SET seq = max(seq, excluded.seq);
END
"""
"""SQLite would give the id of the newest event, once that is deleted, to the next one."""


def upgrade() -> None:
    """Create the table and the columns, and the triggers, which also act for workers of the last version."""
    op.create_table(
        "event_marks",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.add_column("outbound_destinations", sa.Column("events", sa.JSON(), nullable=True))
    op.add_column("outbound_destinations", sa.Column("events_after", sa.BigInteger(), nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_FUNCTION)
        op.execute(_TRIGGER)
    else:
        op.execute(_SQLITE_TRIGGER)


def downgrade() -> None:
    """Drop them."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER laneway_announce_events ON task_events")
        op.execute("DROP FUNCTION laneway_announce_events()")
    else:
        op.execute("DROP TRIGGER laneway_newest_event")
    op.drop_column("outbound_destinations", "events_after")
    op.drop_column("outbound_destinations", "events")
    op.drop_table("event_marks")
