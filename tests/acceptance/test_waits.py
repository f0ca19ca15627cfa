"""A waiting task holds no slot, and goes on at once when its wait is over, also if workers are killed meanwhile."""

from __future__ import annotations

from time import monotonic

from laneway.engine import MessageState
from laneway.schemas.task import TaskState
from tests.fixtures.site import Site
from tests.fixtures.tasks_for_tests import WAITING
from tests.fixtures.waiting import wait_until

QUEUES = "conversations,workflows"
SOON = 15
"""Seconds after which a task goes on at the latest; nothing but a wake is due so early."""


def test_waits_survive_kills_and_hold_no_slot(site: Site) -> None:
    first = site.worker("first", queues=QUEUES, concurrency=1)
    gate = site.gate()
    id = site.submit(WAITING, {"gate": str(gate)})
    site.until_event("first", id)
    wait_until(lambda: site.message_state(id) is MessageState.SCHEDULED, seconds=20)
    assert site.services.tasks.status(id).waiting_for == "the signal 'go'"

    first.kill()  # the signal finds no worker: the task that wakes waits for one
    sent = site.services.tasks.signal(id, "go", {"text": "Hello"})
    assert sent.awaited
    second = site.worker("second", queues=QUEUES, concurrency=1)
    began = monotonic()
    site.until_event("second", id)
    assert monotonic() - began < SOON

    child = wait_until(lambda: _child(site, id), seconds=20)
    site.until_event("began", child)  # the one slot is free, although the task has not ended
    assert site.row(id).state == TaskState.SCHEDULED
    second.kill()
    site.worker("third", queues=QUEUES, concurrency=1)
    gate.open()

    run = site.until(id, TaskState.COMPLETED, seconds=60)
    assert run.result == {"result": {"echo": "Hello"}}
    assert [event for event, *_ in site.events(id)] == ["first", "second", "ended"], "no step is done twice"
    outcomes = [attempt.outcome for attempt in site.services.event_stream.attempts(id)]
    assert outcomes == ["snoozed", "snoozed", "completed"]


def _child(site: Site, id: str) -> str | None:
    return next((task for event, task, *_ in site.events() if event == "began" and task.startswith(f"{id}:")), None)
