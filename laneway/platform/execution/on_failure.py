"""Submits the `on_failure` task of tasks that ended without being completed.

The task is submitted in the transaction that records the end, so no end is missed, whatever its cause: an error, a lost
worker, a time limit, a cancel, an expiry, or a message that could not be read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import nullcontext

from sqlalchemy.orm import Session

from laneway.platform import tracing
from laneway.platform.db.models import TaskRun
from laneway.platform.history.adoption import is_not_signed
from laneway.platform.registry import registry
from laneway.platform.settings import TaskSettings
from laneway.platform.submission.acceptance import SubmitOptions, accept, row_of, store_large
from laneway.platform.tracing.carrier import CARRIER
from laneway.schemas.payload import EndedTask
from laneway.schemas.task import FINISHED, TaskState


def submit_on_failure(session: Session, ended: Iterable[TaskRun], settings: TaskSettings) -> None:
    """Accept the `on_failure` task of each of these tasks, once per end. The outbox relay sends it later.

    A message that is not signed by us has none: its sender must not have any task run.
    """
    for run in ended:
        if is_not_signed(run):
            continue
        spec = registry.get(run.name)
        if spec is None or spec.on_failure is None or run.state not in FINISHED or run.state == TaskState.COMPLETED:
            continue
        number = run.attempts_before + run.attempts
        with nullcontext() if (spans := tracing.active) is None else spans.within(run.options):
            values = row_of(
                registry[spec.on_failure],
                EndedTask(task_id=run.id, run=number),
                SubmitOptions(id=_task_id(run.id, number)),
                settings,
            )
        store_large([values], settings)
        values |= {"state": TaskState.ACCEPTED, "published_at": None, "request_id": run.request_id}
        if CARRIER in run.options:  # it belongs to the trace of the task that has ended
            values["options"] = values["options"] | {CARRIER: run.options[CARRIER]}
        accept(session, values)


def _task_id(ended_task_id: str, attempts: int) -> str:
    """The id of the `on_failure` task. It is the same for the same end, so that a second submission has no effect."""
    return f"ended:{hashlib.sha256(f'{ended_task_id}:{attempts}'.encode()).hexdigest()[:40]}"
