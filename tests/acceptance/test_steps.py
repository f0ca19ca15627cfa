"""Steps, loops, snoozing and cancelling of a task survive the worker that runs it."""

from __future__ import annotations

import signal

import pytest

from laneway.schemas.task import TaskState
from tests.fixtures.site import Node, Site
from tests.fixtures.tasks_for_tests import GATED, GATED_QUIETLY, LOOPING, SNOOZING, STEPPING
from tests.fixtures.waiting import wait_until


def outcomes(site: Site, id: str) -> list[str | None]:
    """The outcome of each attempt of a task, from the history."""
    return [attempt.outcome for attempt in site.services.event_stream.attempts(id)]


def event_data(site: Site, id: str, kind: str) -> list[dict[str, object]]:
    """The data of the events of one kind, from the history."""
    return [event.data for event in site.services.event_stream.events(id) if event.kind == kind]


def noted(site: Site, id: str) -> list[str]:
    """The actions of a task, from its own journal."""
    return [event for event, *_ in site.events(id)]


def workers_of(site: Site, id: str) -> list[str]:
    """The worker of each attempt of a task."""
    return [str(attempt.worker).partition("@")[0] for attempt in site.services.event_stream.attempts(id)]


def test_a_completed_step_is_not_repeated_after_a_kill_of_the_worker(site: Site) -> None:
    first = site.worker("first", concurrency=1)
    gate = site.gate()
    id = site.submit(STEPPING, {"gate": str(gate)})
    site.until_event("between", id)

    first.kill()
    gate.open()
    site.worker("second", concurrency=1)

    run = site.until(id)
    assert (run.state, run.result) == (TaskState.COMPLETED, {"first": 1, "second": 2})
    assert noted(site, id) == ["first", "between", "between", "second"]
    assert outcomes(site, id) == ["lost", "completed"]


def test_a_loop_continues_after_its_last_finished_item_when_the_worker_was_killed(site: Site) -> None:
    first = site.worker("first", concurrency=1)
    gate = site.gate()
    id = site.submit(LOOPING, {"items": 6, "stop_at": 3, "gate": str(gate)})
    site.until_event("item-3", id)

    first.kill()
    gate.open()
    site.worker("second", concurrency=1)

    assert site.until(id).state == TaskState.COMPLETED
    items = [event for event in noted(site, id) if event != "ended"]
    assert items == [
        "item-0",
        "item-1",
        "item-2",
        "item-3",
        "item-3",
        "item-4",
        "item-5",
    ]  # the fourth item was not finished
    assert outcomes(site, id) == ["lost", "completed"]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_loop_moves_from_a_worker_that_shuts_down_to_another_without_counting_an_attempt(
    site: Site, pool: str
) -> None:
    first = site.worker("first", pool=pool, concurrency=1)
    gate = site.gate()
    id = site.submit(LOOPING, {"items": 6, "stop_at": 2, "gate": str(gate)})
    site.until_event("item-2", id)

    first.signal(signal.SIGTERM)
    first.wait_for_output("Warm shutdown")
    gate.open()
    assert first.process.wait(20) == 0
    assert site.row(id).state in (TaskState.PENDING, TaskState.SCHEDULED)
    site.worker("second", pool=pool, concurrency=1)

    run = site.until(id)
    assert (run.state, run.attempts) == (TaskState.COMPLETED, 1)
    assert noted(site, id) == [*(f"item-{number}" for number in range(6)), "ended"]
    assert outcomes(site, id) == ["snoozed", "completed"]
    assert workers_of(site, id) == ["first", "second"]


def test_a_task_may_snooze_more_often_than_it_may_fail(site: Site) -> None:
    site.worker(concurrency=1)
    times = site.settings.tasks.max_retries + 2

    id = site.submit(SNOOZING, {"times": times})

    run = site.until(id)
    assert (run.state, run.attempts) == (TaskState.COMPLETED, 1)
    assert noted(site, id) == ["began"] * (times + 1)
    assert {attempt for _, _, attempt, _ in site.events(id)} == {1}
    assert outcomes(site, id) == ["snoozed"] * times + ["completed"]
    assert [attempt.number for attempt in site.services.event_stream.attempts(id)] == list(range(1, times + 2))


def test_a_task_that_checks_for_its_cancellation_stops_itself_and_another_is_interrupted(site: Site) -> None:
    worker = site.worker(concurrency=2, TASK_CANCEL_GRACE_SECONDS="1")
    never = site.gate()
    looks, deaf = (site.submit(spec, {"gate": str(never)}) for spec in (GATED, GATED_QUIETLY))
    for id in (looks, deaf):
        site.until_event("began", id)

    for id in (looks, deaf):
        site.services.tasks.cancel(id)

    assert {site.until(id).state for id in (looks, deaf)} == {TaskState.CANCELLED}
    assert [data["how"] for data in event_data(site, looks, "end")] == ["cooperative"]
    assert [data["how"] for data in event_data(site, deaf, "end")] == ["interrupted"]
    for id in (looks, deaf):
        assert outcomes(site, id) == ["cancelled"]
        assert len(event_data(site, id, "cancel requested")) == len(event_data(site, id, "mark")) == 1
    assert site.until(site.message("after-cancels")).state == TaskState.COMPLETED
    assert not worker.ended


@pytest.mark.parametrize("before", [True, False], ids=["asked before the kill", "asked after the kill"])
def test_a_cancellation_survives_the_death_of_the_worker(site: Site, *, before: bool) -> None:
    worker = site.worker("killed", concurrency=1, TASK_CANCEL_GRACE_SECONDS="600")
    never = site.gate()
    id = site.submit(GATED_QUIETLY, {"gate": str(never)})
    site.until_event("began", id)

    if before:
        cancel(site, id)
    worker.kill()
    if not before:
        cancel(site, id)
    site.worker("heir", concurrency=1, TASK_CANCEL_GRACE_SECONDS="600")

    assert site.until(id).state == TaskState.CANCELLED
    assert noted(site, id) == ["began"]
    assert outcomes(site, id) == ["lost"]
    assert site.until(site.message("after-heir")).state == TaskState.COMPLETED


def test_a_cancellation_survives_a_restart_of_the_broker(site: Site) -> None:
    node = site.worker("staying", concurrency=1, TASK_CANCEL_GRACE_SECONDS="0")
    never = site.gate()
    id = site.submit(GATED_QUIETLY, {"gate": str(never)})
    site.until_event("began", id)

    site.valkey.kill()
    site.valkey.start()
    cancel(site, id)

    assert site.until(id).state == TaskState.CANCELLED
    until_idle(site, node)
    assert noted(site, id) == ["began"]


def cancel(site: Site, id: str) -> None:
    """Ask a running task to stop."""
    assert not site.services.tasks.cancel(id).cancelled
    assert site.row(id).cancel_requested


def until_idle(site: Site, node: Node) -> None:
    """Wait until no task runs, and check that the worker still works."""
    wait_until(lambda: site.services.tasks.queues()["conversations"].active == 0, seconds=20)
    assert site.until(site.message("after-broker")).state == TaskState.COMPLETED
    assert not node.ended
