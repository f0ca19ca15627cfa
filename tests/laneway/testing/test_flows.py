"""`laneway_platform`: whole flows on a real Valkey and SQLite, run in the thread of the test."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from celery import _state
from celery._state import get_current_app

import laneway
from laneway import Context, Payload, task
from laneway.platform import clock
from laneway.platform.current import current_platform, known_platform
from laneway.platform.errors import UpstreamError
from laneway.platform.execution.task import PlatformTask
from laneway.platform.registry import registry
from laneway.schemas.task import TaskState
from laneway.testing import TestPlatform, flows
from laneway.testing.installation import TestInstallation
from tests.fixtures.http_peer import HttpPeer, HttpReply
from tests.fixtures.receiving import register_receiver

NUMBERS = count()
INPUTS = {"tasks_per_week": 20, "time_per_task_minutes": 5, "hourly_wage": 25, "automation_percent": 80}


class Order(Payload):
    """What the task of these tests is given."""

    fails: int = 0
    next: bool = False


@pytest.fixture
def order() -> Iterator[PlatformTask]:
    """A task that fails as often as it is told, and may submit another one."""

    def work(ctx: Context, payload: Order) -> dict[str, Any]:
        if ctx.attempt <= payload.fails:
            raise UpstreamError("test", "as asked")
        if payload.next:
            declared.options(id=f"{ctx.id}:next", delay=3600).submit(Order())
        return {"attempt": ctx.attempt, "at": clock.now().isoformat()}

    declared = task(queue="documents", name=f"order_{next(NUMBERS)}", retries=2, delays=(60, 600))(work)
    yield declared
    registry.remove(declared.name)
    for app in _state._get_active_apps():  # pyright: ignore[reportPrivateUsage]
        app.tasks.pop(declared.name, None)


def test_a_task_is_submitted_run_and_its_result_is_there(laneway_platform: TestPlatform, order: PlatformTask) -> None:
    handle = laneway_platform.submit(order, Order())
    assert laneway_platform.status(handle).status is TaskState.PENDING

    assert laneway_platform.run_until_idle() == [handle.task_id]

    done = laneway_platform.status(handle)
    assert (done.status, done.result and done.result["attempt"]) == (TaskState.COMPLETED, 1)


def test_the_next_test_finds_nothing_of_the_one_before(laneway_platform: TestPlatform) -> None:
    assert laneway_platform.run_until_idle() == []
    assert laneway_platform.platform.tasks.counts() == dict.fromkeys(laneway_platform.platform.tasks.counts(), 0)


def test_a_batch_runs_to_its_callbacks(laneway_platform: TestPlatform, order: PlatformTask) -> None:
    with laneway.batch(on_death=order, on_success=order) as draft:
        draft.add(order, fails=1)  # pyright: ignore[reportArgumentType] - the fixture has no type of its own
        draft.add(order)  # pyright: ignore[reportArgumentType]
    laneway_platform.run_until_done()

    view = laneway.Batch(draft.id).view()
    assert (view.completed, view.died_at) == (2, None)
    assert laneway_platform.status(f"batch:success:{draft.id}").status is TaskState.COMPLETED


def test_retries_are_run_when_the_clock_has_reached_them(laneway_platform: TestPlatform, order: PlatformTask) -> None:
    handle = laneway_platform.submit(order, Order(fails=2))
    began = laneway_platform.clock.now()

    assert laneway_platform.run_until_idle() == [handle.task_id]
    assert laneway_platform.run_until_idle() == [], "the first retry is due in a minute"
    assert laneway_platform.status(handle).status is TaskState.SCHEDULED
    seconds = laneway_platform.seconds_until_due()
    assert seconds is not None
    assert 50 < seconds < 75, "the delay has a random part"
    laneway_platform.clock.move(seconds - 5)
    assert laneway_platform.run_until_idle() == []
    laneway_platform.clock.move(5)
    assert laneway_platform.run_until_idle() == [handle.task_id]

    done = laneway_platform.wait(handle)

    assert (done.status, done.attempts) == (TaskState.COMPLETED, 3)
    assert timedelta(seconds=660) < laneway_platform.clock.now() - began < timedelta(seconds=760)


def test_a_task_that_fails_too_often_is_a_dead_letter(laneway_platform: TestPlatform, order: PlatformTask) -> None:
    done = laneway_platform.wait(laneway_platform.submit(order, Order(fails=9)))

    assert (done.status, done.error_type) == (TaskState.DEAD_LETTER, "UpstreamError")
    assert [dead.task_id for dead in laneway_platform.platform.tasks.dead()] == [done.task_id]


def test_what_a_task_submits_is_run_at_its_time(laneway_platform: TestPlatform, order: PlatformTask) -> None:
    laneway_platform.submit(order, Order(next=True), id="first")

    assert laneway_platform.run_until_done() == ["first", "first:next"]
    first, second = (laneway_platform.status(id).result or {} for id in ("first", "first:next"))
    assert first["at"] < second["at"]
    assert timedelta(hours=1) <= laneway_platform.clock.now() - laneway_platform.status("first").accepted_at


def test_waiting_for_a_task_that_nobody_may_run_says_why(laneway_platform: TestPlatform, order: PlatformTask) -> None:
    laneway_platform.platform.queue_limits.pause("documents")
    handle = laneway_platform.submit(order, Order())

    with pytest.raises(AssertionError, match=r"is pending, and nothing is due: .*paused"):
        laneway_platform.wait(handle)


def test_schedules_are_sent_when_the_clock_makes_them_due(laneway_platform: TestPlatform) -> None:
    assert laneway_platform.send_due_schedules() == []

    laneway_platform.clock.move(timedelta(days=8))
    sent = laneway_platform.send_due_schedules()

    assert "cleanup-daily" in sent
    assert laneway_platform.send_due_schedules() == [], "each is sent once"
    assert len(laneway_platform.run_until_idle()) >= len(sent)


def test_a_workflow_is_run_to_its_end(laneway_platform: TestPlatform) -> None:
    body = {"workflow_type": "savings_assessment", "input": INPUTS}
    started = laneway_platform.client.post("/api/workflows", json=body).raise_for_status().json()

    laneway_platform.run_until_done()

    run = laneway_platform.client.get(f"/api/workflows/{started['workflow_id']}").raise_for_status().json()
    assert (run["state"], {step["state"] for step in run["steps"]}) == ("completed", {"ok"})


def test_a_webhook_is_delivered_and_a_failed_delivery_is_repeated(
    laneway_platform: TestPlatform, http_peer: HttpPeer
) -> None:
    http_peer.reply_with(HttpReply(503), HttpReply(200))
    register_receiver(laneway_platform.platform.destinations, http_peer.url)
    body = {"url": http_peer.url, "event": "replied", "data": {"text": "Hello"}}

    done = laneway_platform.wait(laneway_platform.submit("send_webhook_response_task", body))

    assert (done.status, done.attempts, len(http_peer.requests)) == (TaskState.COMPLETED, 2, 2)
    assert http_peer.requests[1].json()["data"] == {"text": "Hello"}


def test_a_task_that_the_api_accepts_is_run_by_the_test(laneway_platform: TestPlatform, order: PlatformTask) -> None:
    client = laneway_platform.client
    id = client.post("/tasks", json={"name": order.name, "payload": {"fails": 1}}).raise_for_status().json()["task_id"]

    laneway_platform.wait(id)

    shown = client.get(f"/tasks/{id}").raise_for_status().json()
    assert (shown["status"], shown["result"]["attempt"]) == ("completed", 2)
    assert client.get("/tasks/unknown").status_code == 404


def test_the_tasks_and_the_platform_of_the_process_are_as_before_afterwards(
    laneway_installation: TestInstallation, order: PlatformTask
) -> None:
    app, known = order.app, known_platform()

    with laneway_installation.platform() as platform:
        mine = laneway_installation.app
        assert (order.app is mine, get_current_app() is mine, current_platform() is platform) == (True, True, True)

    assert (order.app is app, known_platform() is known, get_current_app() is mine) == (True, True, False)


def test_tasks_that_never_end_are_an_error(
    laneway_platform: TestPlatform, order: PlatformTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "MOST_TASKS", 3)
    for _ in range(4):
        laneway_platform.submit(order, Order())

    with pytest.raises(RuntimeError, match="did not end in 3 runs"):
        laneway_platform.run_until_idle()
