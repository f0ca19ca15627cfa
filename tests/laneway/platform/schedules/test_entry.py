"""A schedule that cannot work is refused with one sentence."""

from __future__ import annotations

from typing import Any

import pytest
from celery.schedules import crontab

from laneway.platform.queues import Lane, Queues
from laneway.platform.registry import TaskRegistry, TaskSpec
from laneway.platform.schedules import entry
from laneway.platform.schedules.entry import BadSchedule, Schedule, check_schedules
from laneway.schemas.payload import Payload


class Report(Payload):
    """A payload with a required field."""

    hours: int


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> TaskRegistry:
    """A registry with the task `report` in the queue `analytics`."""
    queues = Queues()
    queues.declare({"analytics": Lane.LOW}, [])
    monkeypatch.setattr(entry, "queues", queues)
    registry = TaskRegistry()
    monkeypatch.setattr("laneway.platform.registry.queues", queues)
    registry.add(TaskSpec(name="report", own_queue="analytics", payload=Report), object(), source="shop.report")
    return registry


def schedule(**fields: Any) -> Schedule:
    given: dict[str, Any] = {"task": "report", "queue": "analytics", "kwargs": {"hours": 1}, **fields}
    return Schedule("nightly", when=crontab(hour=3), expires=60, **given)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"task": "reprot"}, "no task is registered as 'reprot'."),
        ({"queue": "nowhere"}, "its queue 'nowhere' is not declared."),
        ({"kwargs": None}, "its arguments do not fit 'report': hours."),
        ({"kwargs": {"hours": 1, "days": 2}}, "its arguments do not fit 'report': days."),
    ],
    ids=["an unregistered task", "an undeclared queue", "a missing argument", "an unknown argument"],
)
def test_a_bad_schedule_is_refused_with_one_sentence(
    registry: TaskRegistry, fields: dict[str, Any], problem: str
) -> None:
    with pytest.raises(BadSchedule) as refused:
        check_schedules([schedule(), schedule(**fields)], registry)

    assert str(refused.value) == f"The schedule 'nightly' cannot work: {problem}"


def test_a_schedule_becomes_an_entry_of_celery(registry: TaskRegistry) -> None:
    check_schedules([schedule()], registry)

    assert schedule().as_celery() == {
        "task": "report",
        "schedule": crontab(hour=3),
        "options": {"queue": "analytics", "expires": 60},
        "kwargs": {"hours": 1},
    }
