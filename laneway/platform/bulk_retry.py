"""Runs many finished tasks again, a page at a time.

A page takes two transactions and a few round trips to the broker, however many tasks it has. The first transaction
puts the tasks into the outbox, claimed by this process, which then sends them. If it dies before that, the relay sends
them. While the broker is away, the old dead letters cannot be deleted. Then the tasks are stored as lost ones, of which
the maintenance deletes the dead letters before it sends them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from laneway.platform import clock
from laneway.platform.audit_log.recording import record_many
from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import task_events, task_runs
from laneway.platform.db.session import Database
from laneway.platform.errors import PlatformError, UnknownTask, WrongState
from laneway.platform.logging import logger
from laneway.platform.submission.outbox import Outbox
from laneway.platform.task_control import SENT_LATER, check_payload, described
from laneway.schemas.task import FINISHED, TaskState

log = logger(__name__)

PAGE: Final = 200
"""Tasks of one transaction. Until it ends, the rows of the page and the end of the audit log are locked."""


class BulkRetry:
    """Runs finished tasks again."""

    def __init__(self, database: Database, broker: Broker, outbox: Outbox) -> None:
        self._database, self._broker, self._outbox = database, broker, outbox

    def retry(self, runs: Iterable[TaskRun], *, action: str = "task.retry") -> tuple[int, dict[str, str]]:
        """Run them again. Returns how many, and id → reason for those that cannot.

        `action`: the name in the audit log, which has an entry for each.
        """
        done, refused = 0, dict[str, str]()
        page: list[TaskRun] = []
        for run in runs:
            page.append(run)
            if len(page) == PAGE:
                done += self._retry_page(page, refused, action)
                page = []
        return done + (self._retry_page(page, refused, action) if page else 0), refused

    def _retry_page(self, page: Sequence[TaskRun], refused: dict[str, str], action: str) -> int:
        """Run a page again; add those that cannot to `refused`, and return how many could."""
        fit = [run for run in page if _fits(run, refused)]
        try:
            restarted = self._restart([run.id for run in fit], refused, action)
        except PlatformError as error:  # nothing of the page was stored
            refused.update({run.id: str(error) for run in fit})
            return 0
        self._outbox.send_claimed([run for run in restarted if run.published_at is not None])
        log.info("tasks retried by hand", tasks=len(restarted))
        return len(restarted)

    def _restart(self, ids: Sequence[str], refused: dict[str, str], action: str) -> list[TaskRun]:
        """Store that they wait again. Raises DatabaseUnavailable."""
        with self._database.transaction() as session:
            found = {run.id: run for run in task_runs.by_ids(session, ids, lock=True)}
            for id in ids:
                if id not in found:
                    refused[id] = str(UnknownTask(id))
                elif found[id].state not in FINISHED:
                    refused[id] = str(WrongState(id, found[id].state, "retried"))
            runs = [found[id] for id in ids if id not in refused]
            is_clean, now = self._delete_ends(runs), clock.now()
            before = [(("task", run.id), described(run)) for run in runs]
            for run in runs:
                task_events.add_event(session, run.id, "retried by hand", at=now, was=run.state)
                task_runs.restart(run, sent_at=None)
                if is_clean:
                    run.state, run.published_at = TaskState.ACCEPTED, now
            record_many(session, action, before)
        return runs

    def _delete_ends(self, runs: Sequence[TaskRun]) -> bool:
        """Delete the dead letters and results of these tasks; False while the broker cannot do so."""
        by_queue = defaultdict[str, list[str]](list)
        for run in runs:
            by_queue[run.queue].append(run.id)
        try:
            for queue, ids in by_queue.items():
                self._broker.discard(queue, ids)
            self._broker.forget_results([run.id for run in runs])
        except SENT_LATER as error:
            log.warning("tasks not sent now; the maintenance sends them later", tasks=len(runs), error=str(error))
            return False
        return True


def _fits(run: TaskRun, refused: dict[str, str]) -> bool:
    try:
        check_payload(run)
    except PlatformError as error:
        refused[run.id] = str(error)
        return False
    return True
