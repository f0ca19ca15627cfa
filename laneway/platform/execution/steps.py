"""Stores what an attempt has done for later attempts: the results of steps, and how far loops have come."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from laneway.platform import clock
from laneway.platform.db.queries import task_events as repository
from laneway.platform.db.queries import task_runs
from laneway.platform.db.session import Database
from laneway.platform.errors import PermanentError, StepTooLarge
from laneway.platform.execution.outcomes import Attempt
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.registry import registry
from laneway.platform.sealing import Sealer, opened

STEP_LIMIT = 1_000_000
"""Characters of JSON that one step may store."""
NAME_LIMIT = 155
"""Characters of a step's name: the width of the column."""


class Steps:
    """What one attempt stores for later attempts of the same task."""

    def __init__(self, database: Database, recorder: JournalRecorder, sealer: Sealer) -> None:
        self._database, self._recorder, self._sealer = database, recorder, sealer

    def run_once(self, attempt: Attempt, name: str, work: Callable[[], Any]) -> Any:
        """Return the stored result, or run `work`, store its result and return it.

        After a crash between `work` and the storing, `work` runs again. If that would do harm, `work` has to store its
        effect under an id derived from the task and the step. Raises StepTooLarge, and PermanentError for an unusable
        name.
        """
        with self._database.reading() as session:
            stored = repository.step(session, attempt.task_id, checked_name(name))
        if stored is not None:
            return opened(stored.result)
        result = work()
        self._store(attempt, name, result, sealed=True)
        return json.loads(json.dumps(result))  # the same value that a later attempt will read

    def finished_items(self, attempt: Attempt, name: str) -> int:
        """Return the number of finished items of a loop."""
        with self._database.reading() as session:
            stored = repository.step(session, attempt.task_id, checked_name(name))
        return int(stored.result) if stored is not None else 0

    def save_finished_items(self, attempt: Attempt, name: str, number: int) -> None:
        """Store the number of finished items of a loop."""
        self._store(attempt, name, number)

    def _store(self, attempt: Attempt, name: str, result: Any, *, sealed: bool = False) -> None:
        size = len(json.dumps(result, allow_nan=False))
        if size > STEP_LIMIT:
            raise StepTooLarge(name, size, STEP_LIMIT)
        spec = registry.get(attempt.name) if sealed else None
        if spec is not None:
            result = self._sealer.result(spec, result)
        with self._database.reading() as session:
            is_recorded = task_runs.find(session, attempt.task_id) is not None
        if not is_recorded:  # a task that was sent without the task manager gets its row when the journal is recorded
            self._recorder.catch_up([attempt.queue])
        with self._database.transaction() as session:
            repository.save_step(session, attempt.task_id, name, result=result, attempt=attempt.number, at=clock.now())


def checked_name(name: str) -> str:
    """Return the name of a step. Raises PermanentError for one that cannot be stored."""
    if not 0 < len(name) <= NAME_LIMIT:
        raise PermanentError(f"The name of a step must have 1 to {NAME_LIMIT} characters.")
    return name
