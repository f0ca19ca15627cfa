"""Makes, shows and changes batches: groups of tasks with callbacks at their end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import uuid4

from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.access.caller import current_caller
from laneway.platform.audit_log.recording import parts_of_one_action, record
from laneway.platform.batches.callbacks import Callbacks, callback_rows, payload_as_given
from laneway.platform.batches.views import describe
from laneway.platform.db.models import TaskBatch
from laneway.platform.db.queries import batches as queries
from laneway.platform.db.session import Database
from laneway.platform.errors import Conflict
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.logging import logger
from laneway.platform.sealing import keyed_digests
from laneway.platform.settings import TaskSettings
from laneway.platform.submission.acceptance import spec_of
from laneway.platform.submission.transaction import Submission
from laneway.platform.task_manager import TaskManager
from laneway.schemas.batch import BatchCancelResponse, BatchHandle, BatchView
from laneway.schemas.choices import BatchEvent
from laneway.schemas.task import TaskHandle

log = logger(__name__)

MOST_CANCELLED: Final = 1000
"""Tasks that one call of `cancel` stops."""
LONGEST_ID: Final = 128
"""Characters of the id of a batch: the ids of its callbacks have it, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBatch:
    """A batch that is to be made."""

    id: str = field(default_factory=lambda: str(uuid4()))
    """A repeat with the same id and contents changes nothing."""
    description: str = ""
    callbacks: Callbacks = field(default_factory=dict[BatchEvent, Submission])
    tasks: Sequence[Submission] = ()
    is_open: bool = False
    """Whether more tasks follow: it does not end before it is closed."""


class Batches:
    """Batches of tasks."""

    def __init__(
        self, database: Database, recorder: JournalRecorder, tasks: TaskManager, settings: TaskSettings
    ) -> None:
        self._database, self._recorder, self._tasks, self._settings = database, recorder, tasks, settings

    def create(self, new: NewBatch) -> BatchHandle:
        """Make a batch and submit its first tasks, in one transaction.

        A repeat with the same id and contents submits nothing. Raises Conflict for other contents, and as
        `TaskManager.submit_many` for the first task or callback that cannot be accepted: nothing is stored then.
        """
        digest, is_sealed = self._digest(new)
        values = self._values(new) | {
            "fingerprint": self._settings.sealer.keyed_digest(digest) if is_sealed else digest
        }
        callbacks = callback_rows(new.id, new.callbacks, self._settings)
        with self._tasks.transaction(bounded=True) as unit:
            created = queries.add(unit.session, values)
            if created:
                queries.add_callbacks(unit.session, callbacks)
                unit.submit_many(_within(new.id, new.tasks))
                if not new.is_open:
                    self._close(unit.session, queries.get(unit.session, new.id))
            else:
                _check_same(queries.get(unit.session, new.id), digest)
        if created:
            self._tasks.outbox.wake_relay()
            log.info("batch made", batch_id=new.id, tasks=len(new.tasks), open=new.is_open)
        return BatchHandle(batch_id=new.id, created=created, tasks=unit.handles if created else [])

    def add(self, id: str, tasks: Sequence[Submission]) -> list[TaskHandle]:
        """Submit more tasks into a batch, in one transaction.

        A closed batch takes them as long as one of its tasks has not ended. Raises NotFound, BatchOver, and as
        `TaskManager.submit_many`.
        """
        return self._tasks.submit_many(_within(id, tasks))

    def close(self, id: str) -> BatchView:
        """Let the batch end with its last task. A closed one stays as it is. Raises NotFound."""
        with self._database.transaction() as session:
            batch = queries.get(session, id, lock=True)
            if batch.closed_at is None:
                self._close(session, batch)
                record(session, "batch.close", ("batch", id))
        self._tasks.outbox.wake_relay()
        return self.view(id)

    def cancel(self, id: str) -> BatchCancelResponse:
        """Close the batch, refuse further tasks, and cancel those that have not ended, at most 1000 of them.

        Repeat it until none is left. Raises NotFound.
        """
        with self._database.transaction() as session:
            batch = queries.get(session, id, lock=True)
            if batch.cancelled_at is None:
                batch.cancelled_at = clock.now()
                self._close(session, batch)
                record(session, "batch.cancel", ("batch", id))
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            runs = queries.unfinished_tasks(session, id, limit=MOST_CANCELLED)
        with parts_of_one_action():
            done, refused = self._tasks.cancel_many(runs) if runs else (0, {})
        self._tasks.outbox.wake_relay()
        with self._database.reading() as session:
            left = queries.count_to_stop(session, id)
        return BatchCancelResponse(batch_id=id, cancelled=done, refused=refused, left=left)

    def view(self, id: str) -> BatchView:
        """A batch with its progress, as of now. Raises NotFound."""
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            return self._views(session, [queries.get(session, id)])[0]

    def page(
        self, *, before: int | None = None, limit: int = 20, unfinished: bool = False
    ) -> tuple[list[BatchView], int | None]:
        """Batches, newest first, and the `before` of the next page; None after the last page."""
        self._recorder.catch_up_quietly()
        with self._database.reading() as session:
            found = queries.page(session, before=before, limit=limit + 1, unfinished=unfinished)
            views = self._views(session, found[:limit])
        return views, found[limit - 1].seq if len(found) > limit else None

    def batch_of(self, task_id: str) -> str | None:
        """The batch of a task, or None. Raises DatabaseUnavailable."""
        with self._database.reading() as session:
            return queries.batch_of(session, task_id)

    def _views(self, session: Session, found: Sequence[TaskBatch]) -> list[BatchView]:
        ids = [batch.id for batch in found]
        counts, callbacks = queries.counts(session, ids), queries.callbacks_of(session, ids)
        return [
            describe(batch, counts[batch.id], [each for each in callbacks if each.batch_id == batch.id])
            for batch in found
        ]

    def _close(self, session: Session, batch: TaskBatch) -> None:
        batch.closed_at = batch.closed_at or clock.now()
        queries.add_check(session, batch.id)

    def _values(self, new: NewBatch) -> dict[str, object]:
        return {
            "id": new.id,
            "description": new.description,
            "created_by": current_caller().name[:200],
            "created_at": clock.now(),
            **dict.fromkeys(("gone_completed", "gone_failed", "gone_cancelled"), 0),
        }

    def _digest(self, new: NewBatch) -> tuple[str, bool]:
        """A digest of everything that the batch is made of, and whether a payload of it is encrypted."""
        digest, seals = hashlib.sha256(json.dumps([new.description, new.is_open]).encode()), False
        for where, one in (*new.callbacks.items(), *((str(at), one) for at, one in enumerate(new.tasks))):
            spec = spec_of(one.task)
            seals = seals or self._settings.sealer.seals(spec)
            call = [where, spec.name, one.options.id, one.options.idempotency_key, payload_as_given(one)]
            digest.update(json.dumps(call, sort_keys=True, default=str).encode())
        return digest.hexdigest(), seals


def _within(id: str, tasks: Sequence[Submission]) -> list[Submission]:
    return [replace(one, options=replace(one.options, batch=id)) for one in tasks]


def _check_same(batch: TaskBatch, digest: str) -> None:
    """Raise Conflict unless a batch was made of the same contents, perhaps with another key of the ring."""
    if batch.fingerprint not in (digest, *keyed_digests(digest)):
        raise Conflict(f"The id {batch.id!r} was used before for another batch.")
