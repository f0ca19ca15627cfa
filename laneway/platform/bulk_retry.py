"""Runs many finished tasks again, a page at a time.

A page takes two transactions and a few round trips to the broker, however many tasks it has. The first transaction
puts the tasks into the outbox, claimed by this process, which then sends them. If it dies before that, the relay sends
them. While the broker is away, the old dead letters cannot be deleted. Then the tasks are stored as lost ones, of which
the maintenance deletes the dead letters before it sends them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

from sqlalchemy.orm import Session

from laneway.platform import clock
from laneway.platform.audit_log.recording import record_many
from laneway.platform.broker import Broker
from laneway.platform.bulk import in_pages
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
        return self._in_pages(runs, partial(self._retry_page, action))

    def restore(self, runs: Iterable[TaskRun], before: Mapping[str, Mapping[str, Any]]) -> tuple[int, dict[str, str]]:
        """Let cancelled tasks wait again that have not run since; `before`: `bulk_cancel.waiting_state` of each."""
        return self._in_pages(runs, partial(self._restore_page, before))

    def _in_pages(
        self, runs: Iterable[TaskRun], restart: Callable[[Sequence[TaskRun], dict[str, str]], Sequence[TaskRun]]
    ) -> tuple[int, dict[str, str]]:
        done, refused = 0, dict[str, str]()
        for page in in_pages(runs, PAGE):
            try:
                restarted = restart(page, refused)
            except PlatformError as error:  # nothing of the page was stored
                refused.update({run.id: str(error) for run in page if run.id not in refused})
                continue
            self._outbox.send_claimed([run for run in restarted if run.published_at is not None])
            log.info("tasks retried by hand", tasks=len(restarted))
            done += len(restarted)
        return done, refused

    def _retry_page(self, action: str, page: Sequence[TaskRun], refused: dict[str, str]) -> Sequence[TaskRun]:
        """Store that they wait again; add those that cannot to `refused`. Raises DatabaseUnavailable."""
        fit = [run.id for run in page if _fits(run, refused)]
        with self._database.transaction() as session:
            runs = _locked(session, fit, refused, "retried")
            self._restart(session, runs, kind="retried by hand", action=action)
        return runs

    def _restore_page(
        self, before: Mapping[str, Mapping[str, Any]], page: Sequence[TaskRun], refused: dict[str, str]
    ) -> Sequence[TaskRun]:
        with self._database.transaction() as session:
            runs = _locked(session, [run.id for run in page], refused, "restored")
            for run in runs:
                if run.state != TaskState.CANCELLED or run.attempts_before + run.attempts != before[run.id]["attempts"]:
                    refused[run.id] = f"Task {run.id!r} has run, or ended otherwise, since it was cancelled."
            runs = [run for run in runs if run.id not in refused]
            times = {run.id: (_moment(before[run.id]["due_at"]), _moment(before[run.id]["expires_at"])) for run in runs}
            self._restart(session, runs, kind="cancel undone", action="task.undo_cancel", times=times)
        return runs

    def _restart(
        self,
        session: Session,
        runs: Sequence[TaskRun],
        *,
        kind: str,
        action: str,
        times: Mapping[str, tuple[datetime | None, datetime | None]] | None = None,
    ) -> None:
        """Store that these rows wait again. `times`: due time and expiry of each; None: neither."""
        is_clean, now = self._delete_ends(runs), clock.now()
        objects = [(("task", run.id), described(run)) for run in runs]
        events = [_event(run, kind, at=now) for run in runs]
        task_events.add_events(session, events)
        state, sent_at = (TaskState.ACCEPTED, now) if is_clean else (TaskState.PENDING, None)
        task_runs.restart_many(session, runs, state=state, sent_at=sent_at)
        if times is not None:
            for run in runs:
                run.due_at, run.expires_at = times[run.id]
            task_runs.set_times(session, [run for run in runs if run.due_at or run.expires_at])
        record_many(session, action, objects)

    def _delete_ends(self, runs: Sequence[TaskRun]) -> bool:
        """Delete the dead letters and results of these tasks; False while the broker cannot do so."""
        by_queue = defaultdict[str, list[str]](list)
        for run in runs:
            by_queue[run.queue].append(run.id)
        try:
            for queue in self._broker.stats(list(by_queue)) or ():
                if queue.dead:  # most dead letters are rows alone
                    self._broker.discard(queue.queue, by_queue[queue.queue])
            self._broker.forget_results([run.id for run in runs])
        except SENT_LATER as error:
            log.warning("tasks not sent now; the maintenance sends them later", tasks=len(runs), error=str(error))
            return False
        return True


def _locked(session: Session, ids: Sequence[str], refused: dict[str, str], verb: str) -> list[TaskRun]:
    """Lock and return those of these tasks that are over; add the others to `refused`."""
    found = {run.id: run for run in task_runs.by_ids(session, ids, lock=True)}
    for id in ids:
        if id not in found:
            refused[id] = str(UnknownTask(id))
        elif found[id].state not in FINISHED:
            refused[id] = str(WrongState(id, found[id].state, verb))
    return [found[id] for id in ids if id not in refused]


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _event(run: TaskRun, kind: str, *, at: datetime) -> dict[str, Any]:
    return {"task_id": run.id, "at": at, "kind": kind, "attempt": None, "data": {"was": run.state}}


def _fits(run: TaskRun, refused: dict[str, str]) -> bool:
    try:
        check_payload(run)
    except PlatformError as error:
        refused[run.id] = str(error)
        return False
    return True
