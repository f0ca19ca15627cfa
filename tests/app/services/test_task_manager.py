"""The application's task manager: the platform's, with the answers of the task routes."""

from __future__ import annotations

from app.core.queues import QUEUES
from app.services.container import Services
from app.services.task_manager import TaskManager, derived_task_id, reported_state
from laneway.schemas.task import TaskState


def test_services_use_the_applications_task_manager(services: Services) -> None:
    assert type(services.tasks) is TaskManager


def test_queue_statistics_have_every_queue_of_the_application(services: Services) -> None:
    services.tasks.submit("generate_performance_report_task", {"hours": 1})
    statistics = services.tasks.queue_statistics()

    assert set(QUEUES) <= set(statistics.queues)
    assert statistics.queues["analytics"].pending == 1


def test_no_task_is_active_before_a_worker_starts_one(services: Services) -> None:
    services.tasks.submit("generate_performance_report_task", {"hours": 1})

    assert (services.tasks.active_tasks().tasks, services.tasks.active_tasks().count) == ([], 0)


def test_a_derived_id_is_the_same_for_the_same_parts_only() -> None:
    assert derived_task_id("message", "a", "b") == derived_task_id("message", "a", "b")
    assert len({derived_task_id("message", "a", "b"), derived_task_id("message", "a", "c")}) == 2


def test_a_submitted_task_is_reported_as_accepted_or_processing() -> None:
    assert reported_state(TaskState.ACCEPTED) is TaskState.ACCEPTED
    assert {reported_state(state) for state in TaskState if state is not TaskState.ACCEPTED} == {TaskState.PROCESSING}
