"""Does one thing with all tasks that a filter selects, at most `MOST` a call: cancel, retry, replay, reprioritise.

A dry run only counts them. Several calls may belong to one action, which an undo takes back as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import search
from laneway.platform.db.queries.backwards import Found
from laneway.platform.db.queries.scan import scan
from laneway.platform.db.queries.search import Filter
from laneway.platform.db.session import Database
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.logging import logger
from laneway.platform.operations.bulk_undo import UNDO_FOR, BulkUndo
from laneway.platform.queues import Priority
from laneway.platform.task_manager import TaskManager
from laneway.schemas.bulk import PrioritySelection, TasksActionResponse, TaskSelection
from laneway.schemas.task import FINISHED, UNFINISHED, WAITING, TaskState

log = logger(__name__)

MOST: Final = 1000
"""Tasks of one call."""
SEARCH_SECONDS: Final = 2.0
"""Seconds for which one call looks for tasks."""
SAMPLES: Final = 5

Outcome = tuple[int, dict[str, str], dict[str, str]]
"""How many were changed, id → reason for those that were refused, and id → id of its copy."""
Change = Callable[[list[TaskRun], str], Outcome]
"""Changes tasks for a bulk action, which is named by its id."""


class BulkTasks:
    """Applies an action to all tasks that are selected."""

    def __init__(self, database: Database, recorder: JournalRecorder, tasks: TaskManager, undo: BulkUndo) -> None:
        self._database, self._recorder, self._tasks, self._undo = database, recorder, tasks, undo

    def cancel(self, selection: TaskSelection) -> TasksActionResponse:
        """Cancel the selected tasks that are not over."""

        def cancel(runs: list[TaskRun], of: str) -> Outcome:
            return *self._tasks.cancel_many(runs, of=of), {}

        return self._apply(selection, UNFINISHED, cancel, kind="cancel")

    def retry(self, selection: TaskSelection) -> TasksActionResponse:
        """Run the selected tasks again that are over. Nothing undoes this: cancel those that have not started."""

        def retry(runs: list[TaskRun], _: str) -> Outcome:
            return *self._tasks.retry_many(runs), {}

        return self._apply(selection, FINISHED, retry, kind=None)

    def replay(self, selection: TaskSelection) -> TasksActionResponse:
        """Submit the selected tasks that are over once more, as new tasks."""

        def replay(runs: list[TaskRun], of: str) -> Outcome:
            copies, refused = self._tasks.replay_many(runs, of=of)
            return len(copies), refused, copies

        return self._apply(selection, FINISHED, replay, kind="replay")

    def reprioritise(self, selection: PrioritySelection) -> TasksActionResponse:
        """Give the selected tasks that wait another priority. Raises Unsupported without the delivery engine."""
        given = selection.priority
        priority = Priority(given) if isinstance(given, int) else Priority[given.name]

        def change(runs: list[TaskRun], of: str) -> Outcome:
            priorities = dict.fromkeys((run.id for run in runs), int(priority))
            return *self._tasks.reprioritise_many(runs, priorities, of=of), {}

        return self._apply(selection, WAITING, change, kind="reprioritise")

    def _apply(
        self, selection: TaskSelection, fit: Sequence[TaskState], change: Change, *, kind: str | None
    ) -> TasksActionResponse:
        self._recorder.catch_up_quietly()
        wanted = filter_of(selection)
        states = tuple(state for state in (wanted.states or fit) if state in fit)
        wanted = replace(wanted, states=states)
        nothing: Found[TaskRun] = Found([], None)  # with `Found[TaskRun](…)` a frozen class with slots fails in 3.11
        found = self._find(selection, wanted) if states else nothing
        runs, samples = found.rows, [run.id for run in found.rows[:SAMPLES]]
        response = TasksActionResponse(
            matched=len(runs),
            done=0,
            dry_run=selection.dry_run,
            samples=samples,
            refused={},
            ids=[],
            more=found.next is not None,
            next=found.next,
        )
        if selection.dry_run:
            return response.model_copy(update={"total": self._count(selection, wanted, found)})
        action = self._undo.begin(kind, known=selection.action) if runs and kind is not None else None
        done, refused, copies = change(runs, "" if action is None else action.id) if runs else (0, {}, {})
        log.info("action on many tasks", action=kind or "retry", selected=len(runs), done=done)
        changed: dict[str, Any] = {"done": done, "refused": refused, "copies": copies, "action": selection.action}
        changed["ids"] = [run.id for run in runs if run.id not in refused]
        if action is not None:
            changed |= {"action": action.id, "undo_until": action.at + UNDO_FOR}
        return response.model_copy(update=changed)

    def _find(self, selection: TaskSelection, wanted: Filter) -> Found[TaskRun]:
        most = min(selection.most, MOST)
        with self._database.reading() as session:
            return scan(session, wanted, before=selection.before, limit=most, seconds=SEARCH_SECONDS)

    def _count(self, selection: TaskSelection, wanted: Filter, found: Found[TaskRun]) -> int | None:
        """How many tasks match; None where a text would have to be looked for in the whole history."""
        if found.next is None and selection.before is None:
            return len(found.rows)
        if wanted.text is not None or wanted.error is not None:
            return None
        with self._database.reading() as session:
            return search.count(session, wanted)


def filter_of(selection: TaskSelection) -> Filter:
    """The tasks that a request selects."""
    return Filter(
        states=tuple(selection.state),
        name=selection.name,
        queue=selection.queue,
        key=selection.key,
        tag=selection.tag,
        batch=selection.batch,
        group=selection.group,
        error=selection.error,
        text=selection.text,
        since=selection.since,
        until=selection.until,
        ended_since=selection.ended_since,
        ended_until=selection.ended_until,
        ids=tuple(selection.ids),
    )
