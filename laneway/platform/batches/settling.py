"""Decides what becomes of batches whose tasks have ended, were retried, or were deleted.

A relay does it, twice a second in each worker. It locks one batch, takes its checks, looks whether a task has not
ended, and commits what follows together with the tasks of the callbacks. A check is committed with what happened to
the task. So whoever takes the check of the last task sees that all tasks have ended, and no end waits for another one.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.batches.callbacks import submit_callback
from laneway.platform.db.models import TaskBatch
from laneway.platform.db.queries import batches as queries
from laneway.platform.db.session import Database
from laneway.platform.logging import logger
from laneway.platform.object_store import StorageUnavailable
from laneway.platform.settings import TaskSettings
from laneway.schemas.choices import BatchEvent

log = logger(__name__)

PAGE: Final = 100
"""Batches that are read at once."""


class BatchSettling:
    """Ends batches, and submits their callbacks. Safe in many processes at once."""

    def __init__(self, database: Database, settings: TaskSettings) -> None:
        self._database, self._settings = database, settings

    def settle(self) -> None:
        """Look at all batches that have checks. Those that somebody has locked are left to the next call.

        Raises DatabaseUnavailable.
        """
        after = ""
        while True:
            with self._database.reading() as session:
                ids = queries.with_checks(session, after=after, limit=PAGE)
            for id in ids:
                self._settle_one(id)
            if len(ids) < PAGE:
                return
            after = ids[-1]

    def check_overlooked(self) -> int:
        """Have a relay look at closed batches that should have ended; returns how many there are.

        A worker of an older version ends tasks without a check.
        """
        after, found = 0, 0
        while True:
            with self._database.reading() as session:
                page = queries.overlooked(session, after=after, limit=PAGE)
            if page:
                with self._database.transaction() as session:
                    for _, id in page:
                        queries.add_check(session, id)
                after, found = page[-1][0], found + len(page)
            if len(page) < PAGE:
                return found

    def _settle_one(self, id: str) -> None:
        try:
            with self._database.transaction() as session:
                batch = queries.lock_free(session, id)
                if batch is not None:
                    settle(session, batch, self._settings)
                elif queries.find(session, id) is None:  # deleted by retention or erasure
                    queries.take_checks(session, id)
        except StorageUnavailable as error:  # of a large payload of a callback: the checks stay
            log.warning("batch not settled now", batch_id=id, error=str(error))


def settle(session: Session, batch: TaskBatch, settings: TaskSettings) -> None:
    """Take the checks of a locked batch, and do what they call for. Raises StorageUnavailable."""
    now, died = clock.now(), any(queries.take_checks(session, batch.id))
    if died and batch.died_at is None:
        batch.died_at = now
        submit_callback(session, batch, BatchEvent.DEATH, settings)
    if batch.closed_at is None or queries.has_unfinished(session, batch.id):
        batch.finished_at = None
        return
    if batch.finished_at is None:
        batch.finished_at = now
        log.info("batch ended", batch_id=batch.id)
    if batch.completed_at is None:
        batch.completed_at = now
        submit_callback(session, batch, BatchEvent.COMPLETE, settings)
    if batch.succeeded_at is None and _has_succeeded(session, batch):
        batch.succeeded_at = now
        submit_callback(session, batch, BatchEvent.SUCCESS, settings)


def _has_succeeded(session: Session, batch: TaskBatch) -> bool:
    """Whether all tasks of a batch that has ended are completed, those that were deleted since as well."""
    if batch.cancelled_at is not None or batch.gone_failed or batch.gone_cancelled:
        return False
    return not queries.has_uncompleted(session, batch.id)
