"""The signals of a task are erased with its other contents, and are deleted with it."""

from __future__ import annotations

from sqlalchemy import func, select

from laneway.platform.db.models import TaskSignal
from laneway.platform.db.session import Database
from laneway.platform.operations.retention import Retention
from tests.laneway.platform.operations.test_retention import NOW, ago, store, task
from tests.laneway.platform.operations.test_retention import retention as retention


def test_signals_are_contents_of_their_task(database: Database, retention: Retention) -> None:
    done, fresh = task("completed", ago(2), payload={}, result=None, traceback=None), task("completed", ago(0.5))
    for run in (done, fresh):
        signal = TaskSignal(task_id=run.id, name="approve", key="", data={"by": "Ada"}, received_at=ago(3))
        store(database, run, signal)

    assert retention.sweep(now=NOW)["task_contents"] == 1
    with database.reading() as session:
        assert session.scalars(select(TaskSignal.task_id)).all() == [fresh.id]
    retention.sweep(now=NOW, task_hours=6)
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(TaskSignal)) == 0
