"""What is done about tasks that ended without being completed: the task that their kind names is submitted.

It happens in the transaction that records the end, so that no end is missed, whatever it came from: an error, a lost
worker, a time limit, a cancel, an expiry, a message that could not be read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from sqlalchemy.orm import Session

from laneway.platform.db.models import TaskRun
from laneway.platform.payload import EndedTask
from laneway.platform.registry import registry
from laneway.platform.schemas.task import FINISHED, TaskState
from laneway.platform.settings import TaskSettings
from laneway.platform.submission.acceptance import SubmitOptions, accept, row_of


def submit_on_failure(session: Session, ended: Iterable[TaskRun], settings: TaskSettings) -> None:
    """Submit what follows the end of these tasks; each end once. The relay sends it."""
    for run in ended:
        spec = registry.get(run.name)
        if spec is None or spec.on_failure is None or run.state not in FINISHED or run.state == TaskState.COMPLETED:
            continue
        number = run.attempts_before + run.attempts
        values = row_of(
            registry[spec.on_failure],
            EndedTask(task_id=run.id, run=number),
            SubmitOptions(id=_id(run.id, number)),
            settings,
        )
        accept(session, values | {"state": TaskState.ACCEPTED, "published_at": None, "request_id": run.request_id})


def _id(task_id: str, number: int) -> str:
    """The same for the same end."""
    return f"ended:{hashlib.sha256(f'{task_id}:{number}'.encode()).hexdigest()[:40]}"
