"""Steps of a task that are done once, and loops that go on where they were: kept in the database, by task and name."""

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

STEP_LIMIT = 1_000_000
"""Characters of JSON that one step may keep."""
NAME_LIMIT = 155


class Steps:
    """What attempts leave for those that come after them."""

    def __init__(self, database: Database, recorder: JournalRecorder) -> None:
        self._database, self._recorder = database, recorder

    def once(self, attempt: Attempt, name: str, work: Callable[[], Any]) -> Any:
        """The kept result, or that of `work`, kept before it is given back.

        A crash between the work and the keeping repeats the work: where that matters, `work` stores its effect under an
        id derived from the task and the step.
        """
        with self._database.reading() as session:
            known = repository.step(session, attempt.task_id, _checked(name))
        if known is not None:
            return known.result
        result = work()
        self._keep(attempt, name, result)
        return json.loads(json.dumps(result))  # what a later attempt will get

    def place(self, attempt: Attempt, name: str) -> int:
        """How many items of a loop are done."""
        with self._database.reading() as session:
            known = repository.step(session, attempt.task_id, _checked(name))
        return int(known.result) if known is not None else 0

    def advance(self, attempt: Attempt, name: str, place: int) -> None:
        """So many items are done."""
        self._keep(attempt, name, place)

    def _keep(self, attempt: Attempt, name: str, result: Any) -> None:
        size = len(json.dumps(result, allow_nan=False))
        if size > STEP_LIMIT:
            raise StepTooLarge(name, size, STEP_LIMIT)
        with self._database.reading() as session:
            known = task_runs.find(session, attempt.task_id) is not None
        if not known:  # it came past the task manager, and is not recorded yet
            self._recorder.catch_up()
        with self._database.transaction() as session:
            repository.keep_step(session, attempt.task_id, name, result=result, attempt=attempt.number, at=clock.now())


def _checked(name: str) -> str:
    if not 0 < len(name) <= NAME_LIMIT:
        raise PermanentError(f"The name of a step must have 1 to {NAME_LIMIT} characters.")
    return name
