"""Sets the classes that a worker on the engine uses for a task's messages."""

from __future__ import annotations

from typing import Any, Final

CELERY_REQUEST: Final = "celery.worker.request:Request"
CELERY_STRATEGY: Final = "celery.worker.strategy:default"
REQUEST: Final = "laneway.worker.request:Request"
STRATEGY: Final = "laneway.worker.strategy:default"


def use_engine_classes(task: Any) -> None:
    """Let this task, or task class, use the engine's request and strategy, unless the project has set others."""
    if task.Request == CELERY_REQUEST:
        task.Request = REQUEST
    if task.Strategy == CELERY_STRATEGY:
        task.Strategy = STRATEGY
