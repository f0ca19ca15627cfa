"""The task that wakes others. An application registers it on a queue of its own, where it runs soon."""

from __future__ import annotations

from typing import Any, Final

from laneway.platform.current import current_platform
from laneway.platform.execution.task import PlatformTask
from laneway.platform.queues import Priority
from laneway.platform.submission.wakes import WAKE_ROLE
from laneway.platform.task_decorator import task
from laneway.schemas.payload import Wake

RETRIES: Final = 20


def wake_waiting_tasks(payload: Wake) -> dict[str, Any]:
    """Make the tasks due that wait for something that has happened."""
    return {"woken": current_platform().tasks.waker.wake(payload)}


def register_wake_task(*, queue: str, name: str = "wake_waiting_tasks") -> PlatformTask:
    """Register the task that wakes waiting tasks on this queue, under this name."""
    return task(queue=queue, name=name, role=WAKE_ROLE, internal=True, retries=RETRIES, priority=Priority.HIGH)(
        wake_waiting_tasks
    )
