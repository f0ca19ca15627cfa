"""A batch as it is shown: its state and its progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from laneway.platform.batches.callbacks import callback_id
from laneway.platform.db.models import BatchCallback, TaskBatch
from laneway.schemas.batch import BatchView, CallbackView
from laneway.schemas.choices import BatchEvent, BatchState
from laneway.schemas.task import FAILURES, WAITING, TaskState

Counts = Mapping[TaskState, int]


def describe(batch: TaskBatch, counts: Counts, callbacks: Sequence[BatchCallback]) -> BatchView:
    """The view of a batch. `counts`: of its tasks that are not deleted, by state."""

    def number(*states: TaskState) -> int:
        return sum(counts.get(state, 0) for state in states)

    waiting, running = number(*WAITING), number(TaskState.PROCESSING)
    completed = number(TaskState.COMPLETED) + batch.gone_completed
    failed = number(*FAILURES) + batch.gone_failed
    cancelled = number(TaskState.CANCELLED, TaskState.EXPIRED) + batch.gone_cancelled
    ended, unfinished = completed + failed + cancelled, waiting + running
    return BatchView(
        batch_id=batch.id,
        description=batch.description,
        state=_state(batch, unfinished=unfinished, uncompleted=failed + cancelled),
        total=ended + unfinished,
        waiting=waiting,
        running=running,
        completed=completed,
        failed=failed,
        cancelled=cancelled,
        percent=100 * ended // (ended + unfinished) if ended + unfinished else 100 * (batch.closed_at is not None),
        created_by=batch.created_by,
        created_at=batch.created_at,
        closed_at=batch.closed_at,
        cancelled_at=batch.cancelled_at,
        died_at=batch.died_at,
        completed_at=batch.completed_at,
        succeeded_at=batch.succeeded_at,
        finished_at=batch.finished_at,
        callbacks=[_callback(batch, each) for each in callbacks],
    )


def _state(batch: TaskBatch, *, unfinished: int, uncompleted: int) -> BatchState:
    if batch.closed_at is None:
        return BatchState.OPEN
    if unfinished:
        return BatchState.RUNNING
    if batch.cancelled_at is not None:
        return BatchState.CANCELLED
    return BatchState.FAILED if uncompleted else BatchState.COMPLETED


def _callback(batch: TaskBatch, callback: BatchCallback) -> CallbackView:
    event = BatchEvent(callback.event)
    moments = {
        BatchEvent.SUCCESS: batch.succeeded_at,
        BatchEvent.COMPLETE: batch.completed_at,
        BatchEvent.DEATH: batch.died_at,
    }
    return CallbackView(
        event=event, name=callback.name, task_id=callback_id(batch.id, event), submitted_at=moments[event]
    )
