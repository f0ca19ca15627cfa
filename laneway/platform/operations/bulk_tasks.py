"""Cancels or retries the tasks that a filter selects, at most `MOST` a call, each as if it were alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from laneway.platform.bulk import Action, apply_to_each
from laneway.platform.db.queries.scan import scan
from laneway.platform.db.queries.search import Filter
from laneway.platform.db.session import Database
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.logging import logger
from laneway.platform.task_manager import TaskManager
from laneway.schemas.bulk import TasksActionResponse, TaskSelection
from laneway.schemas.task import FINISHED, UNFINISHED, TaskState

log = logger(__name__)

MOST: Final = 1000
"""Tasks of one call."""
SEARCH_SECONDS: Final = 2.0
"""Seconds for which one call looks for tasks."""
SAMPLES: Final = 5


class BulkTasks:
    """Applies an action to all tasks that are selected."""

    def __init__(self, database: Database, recorder: JournalRecorder, tasks: TaskManager) -> None:
        self._database, self._recorder, self._tasks = database, recorder, tasks

    def cancel(self, selection: TaskSelection) -> TasksActionResponse:
        """Cancel the selected tasks that are not over."""
        cancel = partial(apply_to_each, action=lambda run: self._tasks.cancel(run.id))
        return self._apply(selection, UNFINISHED, cancel, verb="cancelled")

    def retry(self, selection: TaskSelection) -> TasksActionResponse:
        """Run the selected tasks again that are over."""
        return self._apply(selection, FINISHED, self._tasks.retry_many, verb="retried")

    def _apply(
        self, selection: TaskSelection, fit: Sequence[TaskState], action: Action, *, verb: str
    ) -> TasksActionResponse:
        self._recorder.catch_up_quietly()
        wanted = filter_of(selection)
        states = tuple(state for state in (wanted.states or fit) if state in fit)
        with self._database.reading() as session:
            found = (
                scan(session, replace(wanted, states=states), before=None, limit=MOST, seconds=SEARCH_SECONDS)
                if states
                else None
            )
        runs = list(found.rows) if found else []
        more = found is not None and found.next is not None
        samples = [run.id for run in runs[:SAMPLES]]
        if selection.dry_run:
            return TasksActionResponse(
                matched=len(runs), done=0, dry_run=True, samples=samples, refused={}, ids=[], more=more
            )
        done, refused = action(runs)
        log.info(f"tasks {verb}", selected=len(runs), done=done)
        ids = [run.id for run in runs if run.id not in refused]
        return TasksActionResponse(
            matched=len(runs), done=done, dry_run=False, samples=samples, refused=refused, ids=ids, more=more
        )


def filter_of(selection: TaskSelection) -> Filter:
    """The tasks that a request selects."""
    return Filter(
        states=tuple(selection.state),
        name=selection.name,
        queue=selection.queue,
        key=selection.key,
        tag=selection.tag,
        group=selection.group,
        error=selection.error,
        text=selection.text,
        since=selection.since,
        until=selection.until,
        ids=tuple(selection.ids),
    )
