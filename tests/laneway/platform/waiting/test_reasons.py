"""Why a task waits: every cause that holds, who caused it, when it ends, and a forecast."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.services.container import Services
from laneway.platform import clock
from laneway.platform.access.caller import Caller, acting_as
from laneway.platform.access.scopes import Scope
from laneway.platform.db.queries import task_runs, workers
from laneway.platform.execution.outcomes import Completed
from laneway.schemas.queue import QueueLimits
from laneway.schemas.task import TaskState
from laneway.schemas.waiting import CauseKind, WhyResponse
from tests.fixtures.platform import Platform

QUEUE = "conversations"


def serve(platform: Platform) -> None:
    now = clock.now()
    with platform.database.transaction() as session:
        workers.report(session, "w1", id="w1", queues=[QUEUE], started_at=now, now=now)


def kinds(found: WhyResponse) -> list[CauseKind]:
    return [cause.kind for cause in found.causes]


def test_every_cause_is_named_the_strongest_first(platform: Platform) -> None:
    first = platform.message()
    later = platform.message("c-1", delay=3600)
    found = platform.tasks.why(later)

    assert kinds(found) == [CauseKind.KEY, CauseKind.DUE_TIME, CauseKind.NO_WORKER, CauseKind.LINE]
    assert found.causes[0].task_id == first
    assert found.causes[0].detail == "It waits in the line itself: 0 go before it"
    assert found.causes[1].until == platform.tasks.status(later).due_at
    assert found.causes[0].text == platform.tasks.status(later).waiting_for
    assert (found.ahead, found.forecast) == (None, None)
    assert found.no_forecast == f"It waits for an earlier task of conversation_id:c-1 (task {first})."


def test_who_holds_the_key_and_for_how_long_its_lease_lasts(platform: Platform) -> None:
    first, second = platform.message(), platform.message()
    serve(platform)
    attempt = platform.start(worker="worker-7")
    detail = platform.tasks.why(second).causes[0].detail or ""

    assert detail.startswith("It has run since 20") and " on worker-7; its lease ends in " in detail
    platform.end(attempt, Completed({}))
    assert kinds(platform.tasks.why(second)) == [CauseKind.LINE]
    assert platform.tasks.why(first).causes == []


def test_who_paused_the_queue_is_named_but_not_to_a_tenant(platform: Platform, services: Services) -> None:
    id = platform.message()
    with acting_as(Caller(kind="person", name="ann@shop.example", scopes=frozenset({Scope.QUEUES}))):
        services.queue_limits.pause(QUEUE)
    found = platform.tasks.why(id).causes[0]

    assert (found.kind, found.by) == (CauseKind.PAUSED, "ann@shop.example")
    assert found.since is not None and found.since <= clock.now()
    bound = Caller(kind="token", name="t", scopes=frozenset({Scope.READ}), queues=frozenset({QUEUE}))
    with acting_as(bound):
        assert platform.tasks.why(id).causes[0].by is None


def test_limits_say_when_they_open(platform: Platform, services: Services) -> None:
    ids = [platform.message(f"c-{number}") for number in range(3)]
    serve(platform)
    services.queue_limits.put(QUEUE, QueueLimits(rate=1, per_seconds=60, max_in_flight=1))
    platform.start()
    found = platform.tasks.why(ids[2])

    assert kinds(found) == [CauseKind.IN_FLIGHT, CauseKind.RATE, CauseKind.LINE]
    opens = found.causes[1].until
    assert opens is not None and timedelta(seconds=40) < opens - clock.now() <= timedelta(seconds=61)
    assert (found.ahead, found.causes[2].detail) == (1, "1 task goes before it in its queue")
    assert found.no_forecast == "Its queue started no task lately while others waited."


def test_the_forecast_moves_at_the_pace_of_the_last_starts(platform: Platform) -> None:
    now, done = clock.now(), [platform.message(f"done-{number}") for number in range(11)]
    for _ in done:
        platform.work()
    platform.recorder.catch_up()
    with platform.database.transaction() as session:  # they waited, one started every 6 s, and each ran for 2 s
        for number, id in enumerate(done):
            run = task_runs.get(session, id)
            started = now - timedelta(seconds=6 * (number + 1))
            run.accepted_at = now - timedelta(minutes=9)
            run.started_at, run.finished_at = started, started + timedelta(seconds=2)
    ids = [platform.message(f"c-{number}") for number in range(21)]
    serve(platform)
    found = platform.tasks.why(ids[20])

    assert (found.ahead, found.no_forecast) == (20, None)
    assert found.forecast is not None and (found.forecast.rate, found.forecast.starts) == (10, 10)
    assert found.forecast.starts_p50 - clock.now() == pytest.approx(timedelta(minutes=2), abs=timedelta(seconds=5))
    assert found.forecast.ends_p50 == found.forecast.starts_p50 + timedelta(seconds=2)


def test_a_task_that_runs_or_is_over_waits_for_nothing(platform: Platform) -> None:
    over = platform.brought_to(TaskState.COMPLETED)
    assert platform.tasks.why(over).no_forecast == "It is over."
    running = platform.message("other")
    platform.start()
    found = platform.tasks.why(running)

    assert (found.status, found.causes) == (TaskState.PROCESSING, [])
    assert found.no_forecast == "No task of this name that ran for longer has ended within a day."


def test_without_the_broker_nothing_else_is_known(platform: Platform) -> None:
    id = platform.message()
    platform.valkey.stop()

    assert kinds(platform.tasks.why(id)) == [CauseKind.BROKER]
