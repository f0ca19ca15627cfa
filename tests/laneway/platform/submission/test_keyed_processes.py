"""Submissions of one key by many processes at once, one of which dies: one task waits, and it runs once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from app.core.celery_app import make_celery
from app.core.settings import load_settings
from app.services.container import Services
from laneway.platform.broker import Broker
from laneway.platform.celery_app import load_tasks
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.submission.keyed_tasks import KeyedTasks
from laneway.schemas.choices import IfBusy
from laneway.schemas.task import UNFINISHED, TaskState
from tests.fixtures.forking import run_in_children, start_child
from tests.fixtures.platform import MovableClock, Platform, setting_names
from tests.fixtures.submitting import die

TASK, QUEUE = "generate_performance_report_task", "analytics"
DEBOUNCE = {"debounce": 60, "debounce_key": "ada"}


def in_process(platform: Platform, act: Callable[[Services], object]) -> Callable[[], None]:
    """What a child runs: the function, with services of its own on the servers of this test."""
    known = {name.upper() for name in setting_names()}

    def run() -> None:
        for name in [name for name in os.environ if name.upper() in known]:
            del os.environ[name]
        os.environ["CELERY_BROKER_URL"] = platform.settings.redis.broker_url
        os.environ["CELERY_RESULT_BACKEND"] = platform.settings.redis.result_url
        os.environ["DATABASE_URL"] = platform.database.url.render_as_string(hide_password=False)
        config = load_settings()
        app = make_celery(config)
        app.set_current()
        load_tasks(app)
        act(Services(config, app))

    return run


def submitter(hours: int, **options: Any) -> Callable[[Services], object]:
    """Submits a report with these options."""
    return lambda services: services.tasks.submit(TASK, {"hours": hours}, options=SubmitOptions(**options))


@pytest.mark.parametrize("rule", [DEBOUNCE, {"throttle": 60, "throttle_key": "ada"}], ids=["debounce", "throttle"])
def test_many_processes_leave_one_waiting_task(platform: Platform, rule: dict[str, Any]) -> None:
    run_in_children(*(in_process(platform, submitter(number, **rule)) for number in range(1, 6)), seconds=60)

    (row,) = platform.rows()
    waits = {"debounce": (TaskState.SCHEDULED, []), "throttle": (TaskState.PENDING, [row.id])}
    assert (row.state, platform.sent(QUEUE)) == waits["debounce" if "debounce" in rule else "throttle"]


def killed(platform: Platform, act: Callable[[Services], object]) -> None:
    """Run a process that kills itself."""
    _, status = os.waitpid(start_child(in_process(platform, act)), 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


@pytest.mark.parametrize("gap", ["before it is sent", "before that is noted"])
def test_a_relay_that_dies_loses_no_held_task_and_repeats_none(
    platform: Platform, movable_clock: MovableClock, gap: str
) -> None:
    id = platform.tasks.submit(TASK, {"hours": 1}, options=SubmitOptions(debounce=0.01, debounce_key="ada")).task_id

    def relay(services: Services) -> None:
        publish = Broker.publish_many

        def publish_and_die(broker: Broker, runs: Any) -> Any:
            if gap == "before that is noted":
                publish(broker, runs)
            die()

        Broker.publish_many = publish_and_die  # type: ignore[method-assign]
        while True:
            services.tasks.outbox.relay()

    killed(platform, relay)
    worked = [platform.work(QUEUE)]
    movable_clock.forward(9)
    platform.tasks.outbox.relay()
    worked += [platform.work(QUEUE), platform.work(QUEUE)]

    assert [each for each in worked if each] == [id]


def test_a_submitter_that_dies_before_it_stops_others_leaves_that_to_a_relay(
    platform: Platform, movable_clock: MovableClock
) -> None:
    first = platform.tasks.submit(TASK, {"hours": 1}, options=SubmitOptions(key="ada")).task_id

    def submit_and_die(services: Services) -> None:
        KeyedTasks.stop_superseded_by = die  # type: ignore[method-assign]
        submitter(2, key="ada", if_busy=IfBusy.NEWEST)(services)

    killed(platform, submit_and_die)
    movable_clock.forward(9)
    platform.tasks.outbox.relay()
    platform.recorder.catch_up()

    (left,) = [row for row in platform.rows() if row.state in UNFINISHED]
    assert platform.row(first).state == TaskState.CANCELLED
    assert [platform.work(QUEUE), platform.work(QUEUE)] == [left.id, None]
