"""Which classes Celery uses for a task's messages in a worker on the engine."""

from __future__ import annotations

from typing import Any, Final

CELERY_REQUEST: Final = "celery.worker.request:Request"
CELERY_STRATEGY: Final = "celery.worker.strategy:default"
REQUEST: Final = "laneway.worker.request:Request"
STRATEGY: Final = "laneway.worker.strategy:default"


def use_engine_classes(task: Any) -> None:
    """Let this task, or this class of tasks, use the engine's request and strategy, unless it has others of its own."""
    if task.Request == CELERY_REQUEST:
        task.Request = REQUEST
    if task.Strategy == CELERY_STRATEGY:
        task.Strategy = STRATEGY
