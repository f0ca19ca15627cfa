"""What is done about tasks that ended without being completed: the task that their kind names is submitted.

It happens in the transaction that records the end, so that no end is missed, whatever it came from: an error, a lost
worker, a time limit, a cancel, an expiry, a message that could not be read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from sqlalchemy.orm import Session

from app.core.catalog import CATALOG
from app.core.config import TaskSettings
from app.db.models import TaskRun
from app.schemas.task import FINISHED, EndedTask, State
from app.services.submission import Wish, accept, row_of


def follow(session: Session, ended: Iterable[TaskRun], settings: TaskSettings) -> None:
    """Submit what follows the end of these tasks; each end once. The relay sends it."""
    for run in ended:
        spec = CATALOG.get(run.name)
        if spec is None or spec.on_failure is None or run.state not in FINISHED or run.state == State.COMPLETED:
            continue
        number = run.attempts_before + run.attempts
        values = row_of(CATALOG[spec.on_failure], EndedTask(task_id=run.id, run=number),
                        Wish(id=_id(run.id, number)), settings)  # fmt: skip
        accept(session, values | {"state": State.ACCEPTED, "published_at": None, "request_id": run.request_id})


def _id(task_id: str, number: int) -> str:
    """The same for the same end."""
    return f"ended:{hashlib.sha256(f'{task_id}:{number}'.encode()).hexdigest()[:40]}"
