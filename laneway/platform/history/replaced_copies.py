"""Notices that the database or the broker was replaced by an older copy of itself, or is empty.

The database keeps the cursor up to which it has recorded each journal. The queue keeps the cursor up to which its
journal was trimmed, which happens after the recording. So the two show which of them is behind:

| the queue was trimmed up to | the database has recorded up to | |
|---|---|---|
| the same cursor | | nothing is missing |
| an earlier cursor, and the journal has the entry at the database's cursor | | a recorder has not trimmed yet |
| a later cursor | | **the database is an older copy**: the events in between are gone |
| an earlier cursor, and the journal lacks that entry | | **the broker is an older copy**, or empty |

What is noticed is stored with the cursor in one transaction, because the next recorded event would hide it. It stays
stored until `Reconciliation` has compared the tasks of the queue with its messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy.orm import Session

from laneway.engine import JournalPage
from laneway.engine.journal import cursor_order
from laneway.platform.db.models import JournalCursor
from laneway.platform.db.queries import outbox
from laneway.platform.logging import logger

log = logger(__name__)


class OlderCopy(StrEnum):
    """Which of the two is behind the other."""

    DATABASE = "database"
    BROKER = "broker"


@dataclass(frozen=True, slots=True)
class ReplacedCopy:
    """A queue whose tasks and messages are to be compared, because the database or the broker was replaced.

    `gap_until`: the database lacks the events before this time; None: it lacks none.
    """

    queue: str
    older: OlderCopy
    gap_until: datetime | None

    @classmethod
    def of(cls, cursor: JournalCursor) -> ReplacedCopy:
        """What a cursor says."""
        if cursor.gap_until is None:
            return cls(cursor.queue, OlderCopy.BROKER, None)
        return cls(
            cursor.queue, OlderCopy.DATABASE, datetime.fromtimestamp(cursor_order(cursor.gap_until)[0] / 1000, UTC)
        )


def older_copy(position: str, page: JournalPage) -> OlderCopy | None:
    """Which copy is behind. `position`: the cursor of the database, from which the page was read."""
    if cursor_order(page.recorded) > cursor_order(position):
        return OlderCopy.DATABASE
    if cursor_order(page.recorded) < cursor_order(position) and not page.has_position:
        return OlderCopy.BROKER
    return None


def note_older_copy(session: Session, cursor: JournalCursor, page: JournalPage) -> bool:
    """Store that one copy is behind, and set the cursor to where the journal begins; False: none is behind.

    The rows of the outbox from before the end of the gap are left to the reconciliation: they may have been sent. An
    older broker's journal is read again from its beginning: its clock may be behind the cursor, and recording an event
    a second time changes nothing.
    """
    older = older_copy(cursor.position, page)
    if older is None:
        return False
    log.error(
        "an older copy was restored, or data is lost",
        older=older.value,
        queue=cursor.queue,
        database_has=cursor.position,
        broker_had=page.recorded,
    )
    cursor.position, cursor.replaced = page.recorded, True
    if older is OlderCopy.DATABASE:
        cursor.gap_until = page.recorded
        until = ReplacedCopy.of(cursor).gap_until
        assert until is not None  # noqa: S101 - set just now
        outbox.assume_sent(session, cursor.queue, before=until)
    return True
