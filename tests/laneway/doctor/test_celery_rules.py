"""The rules for Celery's settings, with facts; and what is read from a real app."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from celery import Celery

import laneway
from laneway.adopt.project import Project
from laneway.doctor.celery_facts import CeleryFacts, TaskFacts, collect_celery
from laneway.doctor.celery_rules import CHECKS
from tests.fixtures.judging import findings

GOOD = CeleryFacts(tasks=(TaskFacts(name="shop.add"),))
STOCK = replace(GOOD, on_engine=False, is_installed=False)


def task(**change: Any) -> dict[str, Any]:
    """One task of an app."""
    return {"tasks": (TaskFacts(name="shop.add", **change),)}


def test_good_settings_have_no_finding() -> None:
    assert findings(CHECKS, GOOD) == {}


@pytest.mark.parametrize(
    ("change", "check", "severity"),
    [
        ({"is_installed": False}, "transport", "warning"),
        ({"always_eager": True}, "task_always_eager", "error"),
        (task(acks_late=False), "task_acks_late", "error"),
        (task(rejects_lost=False), "task_reject_on_worker_lost", "warning"),
        ({"prefetch_multiplier": 0}, "worker_prefetch_multiplier", "error"),
        ({"prefetch_multiplier": 4}, "worker_prefetch_multiplier", "warning"),
        ({"unused_options": {"visibility_timeout": "a lease is renewed"}}, "broker_transport_options", "warning"),
        (task(time_limit=None), "task_time_limit", "warning"),
        ({"pool": "threads"}, "task_time_limit", "warning"),
        (task(time_limit=60.0, soft_time_limit=60.0), "task_soft_time_limit", "warning"),
        (task(max_retries=None), "max_retries", "warning"),
        ({"accepted": ("application/json", "application/x-python-serialize")}, "accept_content", "error"),
        ({"results_accepted": ("pickle",)}, "accept_content", "error"),
        ({"task_serializer": "pickle"}, "accept_content", "error"),
        ({"result_expires": None}, "result_expires", "warning"),
        ({"result_expires": 10.0}, "result_expires", "warning"),
        ({"max_memory_per_child": 200}, "worker_max_*_per_child", "error"),
        ({"max_tasks_per_child": 1}, "worker_max_*_per_child", "warning"),
        ({"max_tasks_per_child": 1000, "pool": "gevent"}, "worker_max_*_per_child", "warning"),
        ({"reconnects": False}, "broker_connection_retry", "warning"),
        ({"reconnect_attempts": 3}, "broker_connection_retry", "warning"),
        ({"kills_on_connection_loss": True}, "connection loss", "warning"),
        ({"remote_control": False}, "worker_enable_remote_control", "warning"),
        ({"creates_missing_queues": True, "declared_queues": 2}, "task_create_missing_queues", "warning"),
        ({"protocol": 1}, "task_protocol", "warning"),
        ({"uses_utc": False}, "enable_utc", "warning"),
        ({"beat_entries": 2, "beat_scheduler": "celery.beat:PersistentScheduler"}, "beat_scheduler", "warning"),
    ],
)
def test_each_setting_that_hurts_is_one_finding(change: dict[str, Any], check: str, severity: str) -> None:
    assert findings(CHECKS, replace(GOOD, **change)) == {check: severity}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (task(rejects_lost=True), {"task_reject_on_worker_lost": "warning"}),  # without end
        (task(rejects_lost=False), {"task_reject_on_worker_lost": "warning"}),  # not at all
        (
            task(acks_on_timeout=False),
            {"task_reject_on_worker_lost": "warning", "task_acks_on_timeout": "warning"},
        ),
        (
            {"visibility_timeout": 600.0},
            {"task_reject_on_worker_lost": "warning", "visibility_timeout": "error"},
        ),
    ],
)
def test_kombus_own_transport_has_rules_of_its_own(change: dict[str, Any], expected: dict[str, str]) -> None:
    assert findings(CHECKS, replace(STOCK, **change)) == expected


def test_tasks_of_the_platform_settle_their_outcome_themselves() -> None:
    ours = TaskFacts(name="send", acks_late=False, rejects_lost=False, max_retries=None, is_of_platform=True)

    assert findings(CHECKS, replace(GOOD, tasks=(ours,))) == {}


def test_many_tasks_are_named_in_part() -> None:
    tasks = tuple(TaskFacts(name=f"t{number}", acks_late=False) for number in range(8))

    (early,) = [check for check in CHECKS if check.name == "task_acks_late"]

    assert "t0, t1, t2, t3, t4 and 3 more" in str(early.run(replace(GOOD, tasks=tasks)))


def shop(**settings: Any) -> Celery:
    """A plain app on Redis, on the engine."""
    app = Celery("shop", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/1", set_as_current=False)
    laneway.install(app)
    app.conf.update(settings)

    @app.task(name="shop.add", shared=False)
    def add(x: int, y: int) -> int:
        return x + y

    del add
    return app


def test_celerys_defaults_hurt_in_three_ways() -> None:
    facts = collect_celery(Project(shop()), is_platform=False)

    assert findings(CHECKS, facts) == {
        "task_acks_late": "error",
        "worker_prefetch_multiplier": "warning",
        "task_time_limit": "warning",
    }


def test_an_app_that_is_set_up_well_has_no_finding() -> None:
    app = shop(task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1, task_time_limit=60)

    facts = collect_celery(Project(app), is_platform=False)

    assert findings(CHECKS, facts) == {}
    assert (facts.on_engine, facts.result_backend, facts.time_limit) == (True, "redis", 60.0)
    assert [each.name for each in facts.tasks if each.name.startswith("shop.")] == ["shop.add"]


def test_what_an_app_says_of_itself_is_read() -> None:
    app = shop(
        accept_content=["json", "pickle"],
        worker_max_memory_per_child=200,
        result_expires=None,
        broker_transport_options={"visibility_timeout": 5},
        task_acks_late=True,
        task_time_limit=60,
        worker_prefetch_multiplier=1,
    )

    found = findings(CHECKS, collect_celery(Project(app), is_platform=False))

    assert found == {
        "task_reject_on_worker_lost": "warning",
        "accept_content": "error",
        "worker_max_*_per_child": "error",
        "result_expires": "warning",
        "broker_transport_options": "warning",
    }
