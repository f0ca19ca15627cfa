"""Steps of a task that are done once, and loops that go on where they were: kept in the database, by task and name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from app.core import clock
from app.core.errors import PermanentError, StepTooLarge
from app.db.repositories import history as repository
from app.db.repositories import task_runs
from app.db.session import Database
from app.services.history import History
from app.services.outcomes import Attempt

STEP_LIMIT = 1_000_000
"""Characters of JSON that one step may keep."""
NAME_LIMIT = 155


class Steps:
    """What attempts leave for those that come after them."""

    def __init__(self, database: Database, history: History) -> None:
        self._database, self._history = database, history

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
            self._history.catch_up()
        with self._database.transaction() as session:
            repository.keep_step(session, attempt.task_id, name, result=result, attempt=attempt.number, at=clock.now())


def _checked(name: str) -> str:
    if not 0 < len(name) <= NAME_LIMIT:
        raise PermanentError(f"The name of a step must have 1 to {NAME_LIMIT} characters.")
    return name
