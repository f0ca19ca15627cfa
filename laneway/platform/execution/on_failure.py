"""Submits what follows the end of a task: its `on_failure` task, and the tasks that wake who waits for it.

They are submitted in the transaction that records the end, so no end is missed, whatever its cause: an error, a lost
worker, a time limit, a cancel, an expiry, or a message that could not be read. So are the checks of batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from contextlib import nullcontext

from sqlalchemy.orm import Session

from laneway.platform import tracing
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import batches
from laneway.platform.db.queries.task_waits import WaitKind
from laneway.platform.history.adoption import is_not_signed
from laneway.platform.registry import registry
from laneway.platform.settings import TaskSettings
from laneway.platform.submission.acceptance import SubmitOptions, accept, row_of, store_large
from laneway.platform.submission.wakes import submit_wakes
from laneway.platform.tracing.carrier import CARRIER
from laneway.schemas.payload import EndedTask
from laneway.schemas.task import FINISHED, TaskState


def submit_on_failure(session: Session, ended: Collection[TaskRun], settings: TaskSettings) -> None:
    """Accept what follows the ends of these tasks: `on_failure` tasks, once per end, and tasks that wake others.

    The outbox relay sends them later. A message that is not signed by us has no `on_failure` task: its sender must not
    have any task run.
    """
    batches.add_checks(session, [run for run in ended if run.state in FINISHED], ended=True)
    submit_wakes(session, WaitKind.TASK, [run.id for run in ended if run.state in FINISHED], settings)
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
