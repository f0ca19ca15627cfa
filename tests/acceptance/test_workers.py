"""Real workers: the documented commands, time limits, cancelling, stopping, priorities, a long queue."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from typing import Any

import httpx
import psutil
import pytest
from celery import Celery

from laneway.engine import MessageState
from laneway.platform.db.models import TaskRun
from laneway.platform.queues import Priority
from laneway.platform.registry import registry
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.submission.transaction import Submission
from laneway.schemas.task import QueueFigures, TaskState
from tests.fixtures.site import APP, START_SECONDS, Site
from tests.fixtures.tasks_for_tests import DEAF, FAILING, GATED, GATED_QUIETLY
from tests.fixtures.waiting import wait_until

Report = Callable[[str, object], None]

CELERY = ("celery", "-A", "app.core.celery_app:celery_app")
MESSAGE = "process_conversation_message_task"
SOON = 5
"""Seconds within which a cancelled running task must stop."""


def test_the_documented_commands_work_as_written(site: Site) -> None:
    worker = site.start("by-hand", *CELERY, "worker", "-Q", "conversations,webhooks,analytics")
    beat = site.start("by-hand-beat", *CELERY, "beat")
    flower = site.start("by-hand-flower", *CELERY, "flower")
    api = site.start("by-hand-api", "uvicorn", "app.main:app", UVICORN_PORT=str(site.api_port))
    wait_until(site.api_answers, seconds=START_SECONDS)

    accepted = site.post("/conversations/message", {"conversation_id": "by-hand", "message": "Hello"})
    run = site.until(accepted["task_id"])

    assert run.state == TaskState.COMPLETED, run.error
    beat.wait_for_output("beat: Starting")
    wait_until(lambda: flower_status(site) == 401, seconds=START_SECONDS)
    assert [turn["role"] for turn in site.get("/conversations/by-hand")["messages"]] == ["customer", "assistant"]
    sent_by_name(site)
    for node in (api, beat, flower, worker):
        assert "Traceback" not in node.output()
        assert node.stop() in (0, -signal.SIGTERM)
    assert "Traceback" not in worker.output() + beat.output() + flower.output() + api.output()


def sent_by_name(site: Site) -> None:
    """By Celery's command on the application, and by a program that has Celery and two addresses alone."""
    call = site.start("call", *CELERY, "call", MESSAGE, "--kwargs", json.dumps(by_name("called")))
    assert call.process.wait(START_SECONDS) == 0
    redis = site.settings.redis
    with Celery("shop", broker=redis.broker_url, backend=redis.result_url, set_as_current=False) as stranger:
        result = stranger.send_task(MESSAGE, kwargs=by_name("strange"))
        assert result.get(timeout=START_SECONDS)["conversation_id"] == "strange"
        refused = stranger.send_task(MESSAGE, kwargs={})
        with pytest.raises(Exception, match="conversation_id"):
            refused.get(timeout=START_SECONDS)
    called = site.until(call.output().strip())
    assert [(run.state, run.queue) for run in (called, site.until(result.id))] == [("completed", "conversations")] * 2


def by_name(conversation: str) -> dict[str, str]:
    return {"conversation_id": conversation, "message": "Hello"}


def flower_status(site: Site) -> int:
    try:
        return httpx.get(f"http://127.0.0.1:{site.flower_port}/workers", trust_env=False).status_code
    except httpx.TransportError:
        return 0


def test_a_stopped_worker_finishes_its_running_tasks_and_leaves_the_waiting_ones_to_others(site: Site) -> None:
    stopping = site.worker("stopping")
    gate, never = site.gate(), site.gate()
    running = [site.submit(GATED, {"gate": str(gate)}) for _ in range(2)]
    for id in running:
        site.until_event("began", id)
    waiting = [site.message(f"stopping-{number}") for number in range(5)]

    stopping.signal(signal.SIGTERM)
    stopping.wait_for_output("Warm shutdown")
    site.worker("successor")
    runs = site.until_all_over(waiting, seconds=30)
    assert {str(run.worker).partition("@")[0] for run in runs} == {"successor"}
    assert not stopping.ended
    gate.open()

    assert stopping.process.wait(20) == 0
    runs = site.until_all_over(running)
    assert [(run.state, run.attempts) for run in runs] == [(TaskState.COMPLETED, 1)] * 2
    assert {str(run.worker).partition("@")[0] for run in runs} == {"stopping"}
    assert [site.states([id]) for id in waiting] == [{TaskState.COMPLETED: 1}] * 5
    assert not never.path.exists()


def test_time_limits_are_enforced_and_a_process_that_ignores_them_is_replaced(site: Site, figure: Report) -> None:
    worker = site.worker("limits", TASK_SOFT_TIME_LIMIT="1", TASK_TIME_LIMIT="2")
    gate = site.gate()
    slow = site.submit(GATED_QUIETLY, {"gate": str(gate)})
    site.until_event("began", slow, attempt=2)
    assert site.row(slow).error_type == "TimeLimitExceeded"
    gate.open()
    deaf, numb = site.submit(DEAF, {}), site.submit(DEAF, {"in_c": True})

    ended = site.until(slow)
    assert (ended.state, ended.error) == (TaskState.COMPLETED, None)
    first, second = (site.until_event("began", deaf, attempt=attempt) for attempt in (1, 2))
    assert first != second
    assert not psutil.pid_exists(first)
    assert ("asked", deaf, 1, first) in site.events(deaf)
    dead = site.until_all_over([deaf, numb], seconds=60)
    assert [(run.state, run.attempts, run.error_type) for run in dead] == [
        (TaskState.DEAD_LETTER, 2, "TimeLimitExceeded")
    ] * 2
    assert "2 s" in str(dead[0].error)
    assert not [event for event in site.events(numb) if event[0] == "asked"]
    for id in (deaf, numb):
        began = [event for event in site.events(id) if event[0] == "began"]
        assert [event[2] for event in began] == [1, 2]
    assert site.until(site.submit(FAILING, {"times": 0})).state == TaskState.COMPLETED
    assert not worker.ended


def test_a_running_task_is_cancelled_within_seconds_in_every_pool(site: Site, figure: Report) -> None:
    site.api()
    pools = ("prefork", "threads", "solo")
    workers = [site.begin_worker(pool, pool=pool, concurrency=1) for pool in pools]
    for worker in workers:
        site.until_reported(worker)
    never = site.gate()
    ids = [site.submit(GATED_QUIETLY, {"gate": str(never)}) for _ in pools]
    for id in ids:
        site.until_event("began", id)
    assert {str(run.worker).partition("@")[0] for run in site.rows(ids)} == set(pools)
    wait_until(lambda: all(worker["leases"] for worker in living(site)), seconds=15)
    assert [worker for worker in living(site) if worker["memory"] < 30_000_000] == []
    assert all(0 < worker["disk_free"] < 100 for worker in living(site))

    begun = time.monotonic()
    for id in ids:
        answer = site.post(f"/conversations/tasks/{id}/cancel")
        assert answer == {"task_id": id, "status": TaskState.PROCESSING, "cancelled": False}
    runs = site.until_all_over(ids, seconds=SOON)

    figure("cancelled while running, in three pools, after", f"{time.monotonic() - begun:.1f} s")
    assert [run.state for run in runs] == [TaskState.CANCELLED] * 3
    assert site.get(f"/conversations/tasks/{ids[0]}/status")["status"] == "cancelled"
    after = [site.message(f"after-cancel-{number}") for number in range(6)]
    assert {run.state for run in site.until_all_over(after)} == {TaskState.COMPLETED}
    assert not [worker.name for worker in workers if worker.ended]


def living(site: Site) -> list[dict[str, Any]]:
    """The workers that report, as the API shows them."""
    return [worker for worker in site.get("/workers")["workers"] if worker["alive"]]


def test_tasks_that_celery_terminates_or_revokes_are_cancelled_in_the_history(site: Site) -> None:
    worker = site.worker("revoking", concurrency=1)
    never = site.gate()
    running = site.submit(GATED_QUIETLY, {"gate": str(never)})
    site.until_event("began", running)
    waiting = site.message("revoked")

    site.app.control.revoke(waiting)
    site.app.control.revoke(running, terminate=True)

    runs = site.until_all_over([running, waiting], seconds=15)
    assert [(run.state, run.attempts) for run in runs] == [(TaskState.CANCELLED, 1), (TaskState.CANCELLED, 0)]
    assert site.turns("revoked") == []
    assert site.until(site.message("after-revoke")).state == TaskState.COMPLETED
    assert not worker.ended


def test_tasks_of_higher_priority_run_first(site: Site) -> None:
    site.worker("priorities", concurrency=1)
    gate = site.gate()
    site.until_event("began", site.submit(GATED, {"gate": str(gate)}))
    ids = {
        priority: [site.message(f"{priority.name}-{number}", priority=priority) for number in range(8)]
        for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH, Priority.CRITICAL)
    }

    gate.open()

    started: dict[Priority, list[float]] = {
        priority: [moment(run.started_at) for run in site.until_all_over(some)] for priority, some in ids.items()
    }
    order = [Priority.CRITICAL, Priority.HIGH, Priority.NORMAL, Priority.LOW]
    assert all(max(started[first]) < min(started[then]) for first, then in pairwise(order))


def moment(time: datetime | None) -> float:
    assert time is not None
    return time.timestamp()


def test_failures_are_retried_according_to_their_class(site: Site) -> None:
    site.worker("failing")
    flaky = site.submit(FAILING, {"times": 2})
    hopeless = site.submit(FAILING, {"times": 99})
    permanent = site.submit(FAILING, {"times": 99, "how": "permanent"})
    bug = site.submit(FAILING, {"times": 99, "how": "bug"})

    runs = site.until_all_over([flaky, hopeless, permanent, bug])

    assert [(run.state, run.attempts, run.error_type) for run in runs] == [
        (TaskState.COMPLETED, 3, None),
        (TaskState.DEAD_LETTER, 4, "UpstreamError"),
        (TaskState.FAILED, 1, "UpstreamRefused"),
        (TaskState.FAILED, 1, "ValueError"),
    ]


def test_a_task_sent_without_the_platform_is_recorded_and_expires_if_it_does_not_start(site: Site) -> None:
    stale = site.send_past_the_platform(registry["health_sweep_task"], {}, expires=1)
    sent = time.monotonic()
    wait_until(lambda: time.monotonic() - sent > 1.5, seconds=5)
    site.worker("adopting", app=APP)
    fresh = site.send_past_the_platform(registry["generate_conversation_analytics_task"], {"hours": 1}, expires=60)
    wrong = site.send_past_the_platform(registry["generate_conversation_analytics_task"], {"hours": -1})

    wait_until(lambda: known(site, fresh) and known(site, wrong), seconds=20)
    runs: list[TaskRun] = site.until_all_over([fresh, wrong])
    assert [run.state for run in runs] == [TaskState.COMPLETED, TaskState.FAILED]
    assert (site.until(stale).state, site.row(stale).attempts) == (TaskState.EXPIRED, 0)


def known(site: Site, id: str) -> bool:
    return bool(site.rows([id]))


def test_lost_messages_are_found_among_two_thousand_waiting_ones(site: Site, figure: Report) -> None:
    before = site.services.tasks.queues()
    ids = [f"many-{number}" for number in range(2000)]
    with site.services.tasks.transaction() as transaction:
        transaction.submit_many(
            [
                Submission(
                    "process_conversation_message_task",
                    {"conversation_id": f"many-{number % 500}", "message": "Hello"},
                    SubmitOptions(id=id),
                )
                for number, id in enumerate(ids)
            ]
        )
    lost = lose_oldest(site, 3)
    assert lost == ids[:3]
    later = site.submit("cleanup_old_data_task", {}, delay=3600)
    gate = site.gate()
    urgent = site.submit(GATED, {"gate": str(gate)}, priority=Priority.CRITICAL)
    worker = site.worker("many", concurrency=1)
    begun = time.monotonic()
    site.until_event("began", urgent)

    def figures_of(queue: str) -> QueueFigures:
        return site.services.tasks.queues()[queue]

    # the database learns that it began a moment later
    wait_until(
        lambda: (figures_of("conversations").active, figures_of("conversations").pending) == (1, 2000), seconds=20
    )
    figures = site.services.tasks.queues()
    assert figures["maintenance"].scheduled == before["maintenance"].scheduled + 1
    assert figures["conversations"].workers >= 1  # a killed worker still counts for 20 s
    assert figures["crm"].workers == 0
    wait_until(lambda: all(run.published_at != run.accepted_at for run in site.rows(lost)), seconds=20)
    figure("3 of 2,000 lost by the broker: sent again after", f"{time.monotonic() - begun:.1f} s of a worker's start")
    memory = sum(process.memory_info().rss for process in [psutil.Process(worker.pid), *worker.children()]) / 2**20
    figure("worker with 2,000 waiting: resident memory of both processes", f"{memory:.0f} MiB")
    assert memory < 600

    worker.kill()
    assert site.services.tasks.flush("conversations") >= 1900  # their execution would only take time
    again = [site.message(f"again-{number}") for number in range(100)]
    site.services.recorder.catch_up()  # else they would be sent again
    site.valkey.flush(0)  # now the broker has lost everything
    gate.open()
    begun = time.monotonic()
    site.worker("many-again")
    runs = site.until_all_over([urgent, *again], seconds=60)
    figure("100 waiting ones done, the broker empty, after", f"{time.monotonic() - begun:.1f} s of a worker's start")
    assert {run.state for run in runs} == {TaskState.COMPLETED}
    assert [len(site.turns(f"again-{number}")) for number in range(100)] == [2] * 100
    assert site.row(later).state == TaskState.SCHEDULED
    assert set(site.states(ids)) <= {TaskState.CANCELLED, TaskState.COMPLETED}
    wait_until(lambda: site.services.tasks.queues()["conversations"].pending == 0, seconds=20)


def lose_oldest(site: Site, number: int) -> list[str]:
    """Remove the oldest messages from the broker, as if it had lost them; returns the ids of their tasks."""
    engine = site.services.broker.engine
    assert engine is not None
    oldest = [found.stored.message.task_id for found in engine.peek("conversations", MessageState.READY, limit=number)]
    engine.enable_journal("conversations", None)  # the removal is not recorded
    for id in oldest:
        assert engine.cancel("conversations", id).removed == 1
    engine.enable_journal("conversations", site.settings.tasks.max_unread_events)
    return oldest
