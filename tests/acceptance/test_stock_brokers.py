"""The platform without its delivery engine: on kombu's own Redis transport, and on RabbitMQ by its URL.

What it needs the engine for (order by key, queue limits, delays in the broker) is missing there, and said so;
the main job is done all the same: a message is answered once, a failure retried, the urgent taken first.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from laneway.platform.batches.batches import NewBatch
from laneway.platform.batches.callbacks import callback_id
from laneway.platform.queues import Priority
from laneway.platform.submission.submit_options import SubmitOptions
from laneway.platform.submission.transaction import Submission
from laneway.schemas.choices import BatchEvent, BatchState
from laneway.schemas.task import TaskState
from tests.fixtures.rabbitmq import RabbitServer
from tests.fixtures.site import Site, running_site, seconds_between
from tests.fixtures.tasks_for_tests import ECHOING, FAILING, FILLED, GATED
from tests.fixtures.waiting import wait_until


@pytest.fixture(scope="module")
def on_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An installation on kombu's own Redis transport."""
    with running_site(tmp_path_factory.mktemp("redis"), BROKER_TRANSPORT="celery") as site:
        yield site


@pytest.fixture(scope="module")
def on_rabbitmq(rabbitmq: RabbitServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An installation with its queues in RabbitMQ and its results in Valkey."""
    with (
        rabbitmq.fresh_url() as url,
        running_site(tmp_path_factory.mktemp("rabbitmq"), CELERY_BROKER_URL=url) as site,
    ):
        yield site


@pytest.fixture(params=["redis", "rabbitmq"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Each test runs on both; its processes are killed at its end."""
    site: Site = request.getfixturevalue(f"on_{request.param}")
    yield site
    site.end_nodes()


def test_a_message_posted_to_the_api_is_answered_once(site: Site) -> None:
    worker, api = site.worker(), site.api()
    message = {"conversation_id": "asked", "message": "Where is my order?", "message_id": "first"}

    accepted = site.post("/conversations/message", message)
    run = site.until(accepted["task_id"])
    again = site.post("/conversations/message", message)
    after = site.until(site.message("after"))

    assert (run.state, run.attempts, run.error) == (TaskState.COMPLETED, 1, None)
    assert after.state == TaskState.COMPLETED  # any message of the second post was ahead of it
    assert again["task_id"] == accepted["task_id"]
    assert site.row(run.id).attempts == 1
    assert [turn["role"] for turn in site.get("/conversations/asked")["messages"]] == ["customer", "assistant"]
    assert site.get(f"/conversations/tasks/{run.id}/status")["status"] == TaskState.COMPLETED
    assert site.app.AsyncResult(run.id).get(timeout=10) == run.result  # results are in Redis with both brokers
    assert "without the delivery engine" in worker.output()
    assert "Traceback" not in worker.output() + api.output()


def test_the_api_is_ready_and_shows_waiting_tasks(site: Site) -> None:
    site.api()
    waiting = site.message("nobody-serves")

    assert site.get("/health/ready")["status"] == "ready"
    assert site.get("/conversations/tasks/queues/status")["queues"]["conversations"]["pending"] == 1
    assert site.post(f"/conversations/tasks/{waiting}/cancel")["cancelled"]

    worker = site.worker()
    assert site.until(site.message("after-cancelled")).state == TaskState.COMPLETED
    assert site.row(waiting).state == TaskState.CANCELLED
    assert site.turns("nobody-serves") == []
    assert "Traceback" not in worker.output()


def test_a_failure_is_retried_and_a_permanent_one_is_not(site: Site) -> None:
    site.worker()
    flaky, hopeless = site.submit(FAILING, {"times": 2}), site.submit(FAILING, {"times": 99})
    permanent = site.submit(FAILING, {"times": 99, "how": "permanent"})

    runs = site.until_all_over([flaky, hopeless, permanent])

    assert [(run.state, run.attempts) for run in runs] == [
        (TaskState.COMPLETED, 3),
        (TaskState.DEAD_LETTER, 4),
        (TaskState.FAILED, 1),
    ]
    assert [event[0] for event in site.events(flaky)] == ["began", "began", "began", "ended"]


def test_a_batch_submits_its_callbacks(site: Site) -> None:
    callback = Submission(ECHOING, {"text": "done"}, SubmitOptions())
    tasks = [Submission(FAILING, {"times": times}, SubmitOptions()) for times in (0, 1, 0, 99)]
    batch = NewBatch(tasks=tasks, callbacks={BatchEvent.COMPLETE: callback, BatchEvent.DEATH: callback})
    site.services.batches.create(batch)
    site.worker()

    for event in (BatchEvent.DEATH, BatchEvent.COMPLETE):
        id = callback_id(batch.id, event)
        wait_until(lambda id=id: site.services.tasks.runs([id]), seconds=60)
        assert site.until(id).result == {"echo": "done"}
    view = site.services.batches.view(batch.id)
    assert (view.state, view.completed, view.failed) == (BatchState.FAILED, 3, 1)


def test_the_task_of_higher_priority_runs_first(site: Site) -> None:
    gate = site.gate()
    blocking = site.submit(GATED, {"gate": str(gate)})
    site.worker(concurrency=1)
    site.until_event("began", blocking)
    ahead = site.submit(FAILING, {"times": 0})  # the worker may have prefetched this task beside the running one
    ids = {priority: site.submit(FAILING, {"times": 0}, priority=priority) for priority in Priority}

    gate.open()
    site.until_all_over([blocking, ahead, *ids.values()])

    order = [event[1] for event in site.events() if event[0] == "began" and event[1] in ids.values()]
    assert order == [ids[priority] for priority in sorted(Priority, reverse=True)]


def test_a_delayed_task_runs_when_it_is_due(site: Site) -> None:
    site.worker()

    later = site.message("later", delay=1.5)
    soon = site.until(site.message("soon"))
    run = site.until(later)

    assert (soon.state, run.state, run.attempts) == (TaskState.COMPLETED, TaskState.COMPLETED, 1)
    assert run.started_at and seconds_between(run.accepted_at, run.started_at) >= 1.5


def test_a_stopped_worker_leaves_its_waiting_tasks_to_the_next_one(site: Site) -> None:
    gate = site.gate()
    stopping = site.worker("stopping", concurrency=1)
    running = site.submit(GATED, {"gate": str(gate)})
    site.until_event("began", running)
    waiting = [
        site.submit("process_conversation_message_task", {"conversation_id": f"rest-{number}", "message": "Hello"})
        for number in range(5)
    ]

    stopping.signal(signal.SIGTERM)
    stopping.wait_for_output("Warm shutdown")
    gate.open()
    assert stopping.process.wait(20) == 0
    site.worker("successor")

    runs = site.until_all_over([running, *waiting])
    assert [(run.state, run.attempts) for run in runs] == [(TaskState.COMPLETED, 1)] * 6
    assert {str(run.worker).partition("@")[0] for run in runs[1:]} == {"successor"}


def test_on_rabbitmq_another_worker_repeats_the_task_of_a_killed_worker(on_rabbitmq: Site) -> None:
    try:
        gate = on_rabbitmq.gate()
        killed = on_rabbitmq.worker("killed", concurrency=1)
        running = on_rabbitmq.submit(GATED, {"gate": str(gate)})
        on_rabbitmq.until_event("began", running)

        killed.kill()
        gate.open()
        on_rabbitmq.worker("heir")

        run = on_rabbitmq.until(running, seconds=60)
        assert (run.state, run.attempts) == (TaskState.COMPLETED, 2)
        assert str(run.worker).startswith("heir@")
    finally:
        on_rabbitmq.end_nodes()


def test_a_message_that_rabbitmq_does_not_confirm_is_published_again_and_answered_once(
    on_rabbitmq: Site, rabbitmq: RabbitServer
) -> None:
    accepted = on_rabbitmq.message("confirmed")

    with rabbitmq.paused():
        on_rabbitmq.message("silence", id="silence")
        assert on_rabbitmq.row("silence").state == TaskState.ACCEPTED

    on_rabbitmq.worker()
    assert on_rabbitmq.until(accepted).state == TaskState.COMPLETED
    assert on_rabbitmq.until("silence").state == TaskState.COMPLETED
    assert on_rabbitmq.until(on_rabbitmq.message("after-silence")).state == TaskState.COMPLETED
    assert [turn.role for turn in on_rabbitmq.turns("silence")] == ["customer", "assistant"]
    on_rabbitmq.end_nodes()


def test_a_worker_with_one_slot_runs_chunks(site: Site) -> None:
    site.worker("gathers", concurrency=1)
    ids = [site.submit(FILLED, {"how": how}) for how in ("", "", "fail", "")]

    runs = site.until_all_over(ids)
    assert [run.state for run in runs] == [
        *(TaskState.COMPLETED, TaskState.COMPLETED, TaskState.FAILED, TaskState.COMPLETED),
    ]
    assert [event for id in ids for event, *_ in site.events(id)] == ["in-4"] * 4
    begun = [event.data for event in site.services.event_stream.events(ids[1]) if event.kind == "begin"]
    assert begun[0]["chunk"]["size"] == len(ids)
