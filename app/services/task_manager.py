"""The application's task manager: submit, status, cancel, retry, queue statistics.

Routers, services and commands use this `TaskManager`. Accepting and delivering tasks is left to the platform.
"""

from __future__ import annotations

import hashlib

from laneway.platform import clock
from laneway.platform.task_manager import TaskManager as PlatformTaskManager
from laneway.schemas.task import ActiveTasksResponse, QueuesResponse, TaskState


class TaskManager(PlatformTaskManager):
    """The platform's task manager, with the answers of the application's task routes."""

    def queue_statistics(self) -> QueuesResponse:
        """Per queue: active, pending, scheduled and dead tasks, and live workers."""
        return QueuesResponse(queues=self.queues(), timestamp=clock.now())

    def active_tasks(self, limit: int = 100) -> ActiveTasksResponse:
        """The tasks that run now, newest first."""
        tasks = self.active(limit)
        return ActiveTasksResponse(tasks=tasks, count=len(tasks), timestamp=clock.now())


def derived_task_id(kind: str, *parts: str) -> str:
    """A task id derived from external ids: the same parts always give the same id, whatever their length."""
    return f"{kind}:{hashlib.sha256('/'.join(parts).encode()).hexdigest()[:40]}"


def reported_state(state: TaskState) -> TaskState:
    """The state that a caller sees after a submission: `accepted` if the broker is unreachable, else `processing`."""
    return TaskState.ACCEPTED if state is TaskState.ACCEPTED else TaskState.PROCESSING
