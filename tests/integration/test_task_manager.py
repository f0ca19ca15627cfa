"""The one way in, on real databases and a real broker."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import pytest
from celery import Celery

from app.core import catalog, clock
from app.core.catalog import TaskSpec
from app.core.errors import (
    BrokerUnavailable,
    Conflict,
    InvalidPayload,
    QueueFull,
    TaskExpired,
    UnknownTask,
    WrongState,
)
from app.core.logging import bind, unbind_all
from app.core.queues import QUEUES, Priority
from app.db.models import TaskRun
from app.db.repositories import workers
from app.db.session import Database
from app.schemas.task import FINISHED, State, TaskHandle
from app.services.broker import Broker
from app.services.executions import Completed, Raised
from app.services.task_manager import TaskManager
from tests.fixtures.platform import Environment, MovableClock, Platform, celery_on, make_platform, settings_for
from tests.fixtures.valkey import RedisUrls

BROKER_ANSWERS_WITHIN = 10.0
"""Seconds within which a submission to a broker that is away must have failed."""


def test_a_submitted_task_is_in_the_ledger_and_at_the_broker(platform: Platform) -> None:
    handle = platform.tasks.submit("process_conversation_message_task", {"conversation_id": "c-1", "text": " Hi "})

    row = platform.row(handle.task_id)
    assert handle == TaskHandle(task_id=row.id, state=State.PENDING, created=True)
    assert (row.state, row.queue, row.key, row.attempts) == ("pending", "conversations", "conversation_id:c-1", 0)
    assert row.payload == {"conversation_id": "c-1", "text": "Hi", "channel": "api"}
    assert row.max_retries == platform.settings.tasks.max_retries
    assert platform.sent() == [row.id]


def test_the_message_carries_the_payload_and_names_the_ledger(platform: Platform) -> None:
    id = platform.message(text="Grüße")

    (message,) = platform.messages()
    assert message["headers"]["task"] == "process_conversation_message_task"
    assert message["headers"]["id"] == id
    assert message["headers"]["laneway-ledger"] is True
    assert message["headers"]["ignore_result"] is False
    assert message["content-type"] == "application/json"


def test_the_same_id_and_payload_twice_is_one_row_one_message_and_the_first_handle(platform: Platform) -> None:
    platform.message("c-1", id="order-1")

    again = platform.tasks.submit(catalog.PROCESS_MESSAGE, {"text": "Hello", "conversation_id": "c-1"}, id="order-1")

    assert again == TaskHandle(task_id="order-1", state=State.PENDING, created=False)
    assert [row.id for row in platform.rows()] == ["order-1"]
    assert platform.sent() == ["order-1"]


def test_the_handle_of_a_repeat_says_what_has_become_of_the_first(platform: Platform) -> None:
    platform.end(platform.start(platform.message(id="order-1")))

    handle = platform.tasks.submit(catalog.PROCESS_MESSAGE, {"conversation_id": "c-1", "text": "Hello"}, id="order-1")

    assert handle == TaskHandle(task_id="order-1", state=State.COMPLETED, created=False)


def test_many_submitters_of_one_id_at_once_make_one_task(platform: Platform) -> None:
    together = Barrier(8)

    def submit(_: int) -> TaskHandle:
        together.wait(10)
        return platform.webhook(id="same")

    with ThreadPoolExecutor(8) as pool:
        handles = list(pool.map(submit, range(8)))

    assert sorted(handle.created for handle in handles) == [False] * 7 + [True]
    assert {handle.task_id for handle in handles} == {"same"}
    assert [row.id for row in platform.rows()] == ["same"]
    assert platform.sent("webhooks") == ["same"]


def test_the_same_id_with_another_payload_is_a_conflict_and_changes_nothing(platform: Platform) -> None:
    platform.message(id="order-1", text="one")

    with pytest.raises(Conflict, match="'order-1'"):
        platform.message(id="order-1", text="another")

    assert platform.row("order-1").payload["text"] == "one"
    assert platform.sent() == ["order-1"]


def test_the_same_id_for_another_task_is_a_conflict(platform: Platform) -> None:
    platform.chore(id="nightly")

    with pytest.raises(Conflict):
        platform.tasks.submit(catalog.HEALTH_SWEEP, {}, id="nightly")


def test_an_unknown_task_is_refused(platform: Platform) -> None:
    with pytest.raises(UnknownTask, match="no_such_task"):
        platform.tasks.submit("no_such_task", {})

    assert platform.rows() == []


def test_an_invalid_payload_is_refused_with_its_fields_and_without_its_values(platform: Platform) -> None:
    payload = {"conversation_id": "secret-value!", "text": "", "surprise": "secret-value"}

    with pytest.raises(InvalidPayload) as refused:
        platform.tasks.submit(catalog.PROCESS_MESSAGE, payload)

    told = str(refused.value)
    assert [problem.partition(":")[0] for problem in refused.value.problems] == ["conversation_id", "text", "surprise"]
    assert "secret-value" not in told
    assert "secret-value" not in repr(refused.value)
    assert refused.value.__cause__ is None
    assert platform.rows() == []
    assert platform.sent() == []


def test_a_full_queue_refuses_and_stores_nothing(platform: Platform) -> None:
    small = manager(platform, max_queue_size=3)
    for _ in range(3):
        small.submit(catalog.CLEANUP, {})

    with pytest.raises(QueueFull, match="'maintenance'") as refused:
        small.submit(catalog.CLEANUP, {}, id="too-many")

    assert refused.value.retry_after
    assert len(platform.rows()) == len(platform.sent("maintenance")) == 3
    assert small.submit(catalog.SEND_WEBHOOK, webhook_payload()).created, "another queue has room"


def test_a_full_queue_still_answers_for_what_it_has(platform: Platform) -> None:
    small = manager(platform, max_queue_size=1)
    small.submit(catalog.CLEANUP, {}, id="first")

    assert small.submit(catalog.CLEANUP, {}, id="first").created is False


@pytest.mark.parametrize("state", [State.SCHEDULED, State.HELD])
def test_scheduled_and_held_tasks_count_as_waiting(platform: Platform, state: State) -> None:
    small = manager(platform, max_queue_size=2)
    for number in range(2):
        delay = 60 if state is State.SCHEDULED else 0
        small.submit(catalog.PROCESS_MESSAGE, {"conversation_id": "c-1", "text": str(number)}, id=f"m{number}",
                     delay=delay)  # fmt: skip
    if state is State.HELD:
        platform.refusal("m1")
    assert platform.state("m1") == state

    with pytest.raises(QueueFull):
        small.submit(catalog.PROCESS_MESSAGE, {"conversation_id": "c-2", "text": "no room"})


def test_what_runs_or_is_over_does_not_count_as_waiting(platform: Platform) -> None:
    small = manager(platform, max_queue_size=1)
    platform.end(platform.start(small.submit(catalog.CLEANUP, {}).task_id))
    platform.start(small.submit(catalog.CLEANUP, {}).task_id)

    assert small.submit(catalog.CLEANUP, {}).created


def test_at_the_limit_concurrent_submitters_overshoot_by_less_than_their_number(platform: Platform) -> None:
    """SQLite's writers queue up, so it is exact; PostgreSQL counts before others commit, once each at most."""
    limit, submitters = 5, 12
    small, together = manager(platform, max_queue_size=limit), Barrier(12)

    def submit(_: int) -> bool:
        together.wait(10)
        try:
            return small.submit(catalog.CLEANUP, {}).created
        except QueueFull:
            return False

    for _ in range(limit - 1):
        small.submit(catalog.CLEANUP, {})
    with ThreadPoolExecutor(submitters) as pool:
        accepted = sum(pool.map(submit, range(submitters)))

    stored = len(platform.rows())
    assert stored == len(platform.sent("maintenance")) == limit - 1 + accepted
    assert accepted >= 1
    assert stored <= (limit if platform.database.is_sqlite else limit - 1 + submitters)
    with pytest.raises(QueueFull):
        small.submit(catalog.CLEANUP, {})


def test_a_broker_that_is_away_refuses_quickly_and_nothing_is_stored(platform: Platform) -> None:
    platform.valkey.stop()
    began = time.monotonic()

    with pytest.raises(BrokerUnavailable):
        platform.message(id="order-1")

    assert time.monotonic() - began < BROKER_ANSWERS_WITHIN
    assert platform.rows() == []


@pytest.mark.parametrize("idle", [False, True], ids=["noticed", "unnoticed"])
def test_the_broker_connection_works_again_after_a_restart(platform: Platform, idle: bool) -> None:
    """Also when nobody published in between, so that the pooled connection still seems to be good."""
    platform.message(id="before")
    platform.valkey.stop()
    if not idle:
        with pytest.raises(BrokerUnavailable):
            platform.message(id="order-1")
    platform.valkey.start()

    assert platform.message("c-2", id="order-1") == "order-1"
    assert platform.sent() == ["before", "order-1"]


def test_a_withdrawn_task_whose_message_got_through_all_the_same_is_not_run(platform: Platform) -> None:
    platform.valkey.stop()
    with pytest.raises(BrokerUnavailable):
        platform.chore(id="ghost")

    assert platform.refusal("ghost") == "it is not in the ledger"


def test_what_a_second_submitter_was_promised_is_not_withdrawn(
    platform: Platform, movable_clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its repeat came while the first submitter still tried to reach the broker, in vain."""
    promised: list[TaskHandle] = []

    def in_vain(_broker: Broker, _run: TaskRun) -> None:
        promised.append(platform.webhook(id="same"))
        raise BrokerUnavailable("timed out")

    with monkeypatch.context() as away:
        away.setattr(Broker, "publish", in_vain)
        assert platform.webhook(id="same").created

    assert promised == [TaskHandle(task_id="same", state=State.PENDING, created=False)]
    movable_clock.forward(60)
    assert platform.steward().send_lost() == 1
    assert platform.sent("webhooks") == ["same"]


def test_a_delayed_task_is_scheduled_and_not_sent(platform: Platform) -> None:
    before = clock.now()
    handle = platform.tasks.submit(catalog.CLEANUP, {}, delay=90)

    row = platform.row(handle.task_id)
    assert handle.state == State.SCHEDULED
    assert row.due_at is not None
    assert 89 < (row.due_at - before).total_seconds() < 95
    assert row.published_at is None
    assert platform.sent("maintenance") == []
    assert platform.refusal(row.id) == "it is scheduled"


def test_a_delayed_task_is_accepted_while_the_broker_is_away(platform: Platform) -> None:
    platform.valkey.stop()

    assert platform.tasks.submit(catalog.CLEANUP, {}, delay=90).created


def test_the_request_id_of_the_caller_is_kept(platform: Platform) -> None:
    bind(request_id="req-7")
    try:
        assert platform.row(platform.chore()).request_id == "req-7"
    finally:
        unbind_all()


def test_a_task_with_retries_of_its_own_keeps_their_number(platform: Platform) -> None:
    assert platform.row(platform.webhook().task_id).max_retries == catalog.SEND_WEBHOOK.max_retries
    assert platform.row(platform.tasks.submit(catalog.HEALTH_SWEEP, {}).task_id).max_retries == 0


def test_a_payload_of_a_megabyte_goes_through(platform: Platform) -> None:
    data = {"text": "ü" * 500_000}
    id = platform.tasks.submit(catalog.SEND_WEBHOOK, {**webhook_payload(), "data": data}).task_id

    assert platform.row(id).payload["data"] == data
    assert platform.sent("webhooks") == [id]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_know_becomes_null(platform: Platform, number: float) -> None:
    id = platform.tasks.submit(catalog.SEND_WEBHOOK, {**webhook_payload(), "data": {"n": number}}).task_id

    assert platform.row(id).payload["data"] == {"n": None}


@pytest.mark.parametrize("text", ["\x00", "\ud800", "\U0001f600 ü", "\x1b[31m"])
def test_any_text_in_a_payload_is_stored_and_sent(platform: Platform, text: str) -> None:
    id = platform.tasks.submit(catalog.SEND_WEBHOOK, {**webhook_payload(), "data": {"text": text}}).task_id

    assert platform.row(id).payload["data"] == {"text": text}
    assert platform.take("webhooks") == id


# --- cancel -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.PENDING, State.SCHEDULED, State.HELD])
def test_a_waiting_task_that_is_cancelled_never_runs(platform: Platform, state: State) -> None:
    id = brought_to(platform, state)

    answer = platform.tasks.cancel(id)

    assert (answer.status, answer.cancelled) == (State.CANCELLED, True)
    row = platform.row(id)
    assert row.finished_at is not None
    assert row.due_at is None
    assert platform.refusal(id) == "it is cancelled"


def test_a_running_task_that_is_cancelled_is_asked_to_stop(platform: Platform) -> None:
    run = platform.start(platform.message())

    answer = platform.tasks.cancel(run.id)

    assert (answer.status, answer.cancelled) == (State.PROCESSING, False)
    assert platform.tasks.status(run.id).cancel_requested
    assert platform.executions.progress(run, percent=40, message="half") is True


def test_a_task_that_was_asked_to_stop_and_fails_is_cancelled_and_not_tried_again(platform: Platform) -> None:
    id = platform.message()
    run = platform.start(id)
    platform.tasks.cancel(id)

    assert platform.end(platform.row(id), Raised(OSError("gone"))) is State.CANCELLED
    assert run.attempts == 1


def test_a_task_that_was_asked_to_stop_too_late_is_completed(platform: Platform) -> None:
    run = platform.start(platform.message())
    platform.tasks.cancel(run.id)

    assert platform.end(run, Completed(None)) is State.COMPLETED


@pytest.mark.parametrize("state", FINISHED)
def test_a_task_that_is_over_cannot_be_cancelled(platform: Platform, state: State) -> None:
    id = brought_to(platform, state)

    with pytest.raises(WrongState, match=f"is {state}; it cannot be cancelled"):
        platform.tasks.cancel(id)

    assert platform.state(id) == state


def test_cancelling_an_unknown_task_says_so(platform: Platform) -> None:
    with pytest.raises(UnknownTask):
        platform.tasks.cancel("nobody")


def test_cancelling_while_a_worker_claims_ends_one_way_or_the_other(platform: Platform) -> None:
    for round in range(20):
        id = platform.chore()
        together = Barrier(2)

        def cancel(id: str = id, together: Barrier = together) -> bool:
            together.wait(10)
            return platform.tasks.cancel(id).cancelled

        with ThreadPoolExecutor(1) as pool:
            cancelled = pool.submit(cancel)
            together.wait(10)
            claimed = platform.executions.claim(id, worker="w")
            ended = cancelled.result(10)

        assert platform.state(id) == (State.CANCELLED if ended else State.PROCESSING), f"round {round}"
        assert (getattr(claimed, "reason", None) is None) is not ended


# --- retry by hand ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", FINISHED)
def test_a_task_that_is_over_can_be_run_again_under_its_id(platform: Platform, state: State) -> None:
    id = brought_to(platform, state)
    platform.lose("conversations")

    handle = platform.tasks.retry(id)

    row = platform.row(id)
    assert handle == TaskHandle(task_id=id, state=State.PENDING, created=True)
    assert (row.state, row.attempts, row.progress, row.cancel_requested) == ("pending", 0, 0, False)
    assert (row.error, row.error_type, row.traceback, row.result, row.finished_at, row.worker) == (None,) * 6
    assert platform.sent() == [id]
    assert platform.end(platform.start(id)) is State.COMPLETED


@pytest.mark.parametrize("state", [State.PENDING, State.SCHEDULED, State.HELD, State.PROCESSING])
def test_a_task_that_is_not_over_cannot_be_retried(platform: Platform, state: State) -> None:
    id = brought_to(platform, state)

    with pytest.raises(WrongState, match=f"is {state}; it cannot be retried"):
        platform.tasks.retry(id)

    assert platform.state(id) == state


def test_retrying_an_unknown_task_says_so(platform: Platform) -> None:
    with pytest.raises(UnknownTask):
        platform.tasks.retry("nobody")


def test_of_several_who_retry_one_task_at_once_one_does(platform: Platform) -> None:
    id = brought_to(platform, State.DEAD_LETTER)
    platform.lose("conversations")
    together = Barrier(6)

    def retry(_: int) -> bool:
        together.wait(10)
        try:
            return platform.tasks.retry(id).created
        except WrongState:
            return False

    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(retry, range(6)))

    assert sum(done) == 1
    assert platform.sent() == [id]


def test_a_retry_while_the_broker_is_away_is_accepted_and_sent_later(
    platform: Platform, movable_clock: MovableClock
) -> None:
    id = brought_to(platform, State.FAILED)
    platform.valkey.stop()

    assert platform.tasks.retry(id).created
    platform.valkey.start()
    platform.lose("conversations")
    movable_clock.forward(60)
    platform.steward().send_lost()
    assert platform.sent() == [id]


# --- status -------------------------------------------------------------------------------------------------


def test_the_status_of_an_unknown_task_is_a_404(platform: Platform) -> None:
    with pytest.raises(UnknownTask) as unknown:
        platform.tasks.status("nobody")

    assert unknown.value.status == 404


@pytest.mark.parametrize("id", ["null\x00byte", "x" * 10_000, "ü ☃", ""])
def test_an_id_that_no_database_would_store_is_unknown_too(platform: Platform, id: str) -> None:
    for ask in (platform.tasks.status, platform.tasks.cancel, platform.tasks.retry, platform.tasks.details):
        with pytest.raises(UnknownTask):
            ask(id)


def test_the_status_of_an_expired_task_is_a_410(platform: Platform, movable_clock: MovableClock) -> None:
    id = brought_to(platform, State.COMPLETED)
    hours = platform.settings.tasks.status_expiry_hours
    movable_clock.forward(hours * 3600 - 60)
    assert platform.tasks.status(id).status == State.COMPLETED
    movable_clock.forward(120)

    with pytest.raises(TaskExpired, match=f"{hours} hours") as expired:
        platform.tasks.status(id)

    assert expired.value.status == 410


def test_a_task_that_is_not_over_never_expires(platform: Platform, movable_clock: MovableClock) -> None:
    id = platform.message()
    movable_clock.forward(365 * 86_400)

    assert platform.tasks.status(id).status == State.PENDING


def test_a_status_tells_everything(platform: Platform) -> None:
    id = platform.message(priority=Priority.HIGH)
    run = platform.start(id, worker="worker-7")
    platform.executions.progress(run, percent=40, message="thinking")

    status = platform.tasks.status(id)

    assert (status.status, status.progress, status.message) == (State.PROCESSING, 40, "thinking")
    assert (status.attempts, status.queue, status.priority, status.worker) == (1, "conversations", 2, "worker-7")
    assert status.accepted_at <= (status.started_at or status.accepted_at) <= clock.now()
    assert status.waiting_for is None
    platform.end(run, Completed({"reply": "hi"}))
    done = platform.tasks.status(id)
    assert (done.status, done.progress, done.result, done.error) == (State.COMPLETED, 100, {"reply": "hi"}, None)
    assert done.finished_at is not None


def test_a_status_says_what_the_task_waits_for(platform: Platform) -> None:
    first, second, later = platform.message(), platform.message(), platform.message("c-2", delay=60)
    assert platform.tasks.status(first).waiting_for == "a worker: none serves the queue 'conversations'"
    with platform.database.transaction() as session:
        workers.report(session, "w1", queues=["conversations"], now=clock.now())
    assert platform.tasks.status(first).waiting_for == "a free worker"
    run = platform.start(first)
    platform.refusal(second)

    assert platform.tasks.status(first).waiting_for is None
    assert platform.tasks.status(second).waiting_for == "an earlier task of conversation_id:c-1"
    assert platform.tasks.status(later).waiting_for == "its due time"
    platform.end(run)
    assert platform.tasks.status(first).waiting_for is None


# --- queue figures and lists --------------------------------------------------------------------------------


def test_queue_figures_count_every_state_in_its_place(platform: Platform) -> None:
    for state in State:
        brought_to(platform, state, conversation=f"c-{state}")
    with platform.database.transaction() as session:
        workers.report(session, "w1", queues=["conversations", "webhooks"], now=clock.now())

    figures = platform.tasks.queues()

    busy = figures["conversations"]
    # The held task waits behind a running one of its key: two run.
    assert (busy.active, busy.pending, busy.scheduled, busy.dead, busy.workers) == (2, 2, 1, 1, 1)
    assert busy.lane == "high"
    assert set(figures) == set(QUEUES)
    assert (figures["webhooks"].workers, figures["analytics"].workers) == (1, 0)


def test_a_worker_that_is_silent_is_not_counted(platform: Platform, movable_clock: MovableClock) -> None:
    with platform.database.transaction() as session:
        workers.report(session, "w1", queues=["webhooks"], now=clock.now())
    assert platform.tasks.live_workers() == 1
    movable_clock.forward(21)

    assert platform.tasks.live_workers() == 0
    assert platform.tasks.queues()["webhooks"].workers == 0


def test_active_and_dead_tasks_are_listed_newest_first(platform: Platform) -> None:
    running = [brought_to(platform, State.PROCESSING, conversation=f"c-{number}") for number in range(3)]
    dead = [brought_to(platform, State.DEAD_LETTER, conversation=f"d-{number}") for number in range(2)]

    assert [task.task_id for task in platform.tasks.active()] == running[::-1]
    assert [task.task_id for task in platform.tasks.active(limit=1)] == running[-1:]
    assert [task.task_id for task in platform.tasks.dead()] == dead[::-1]
    assert [task.task_id for task in platform.tasks.runs([dead[1], "nobody", running[0]])] == [running[0], dead[1]]


def test_an_ordering_key_longer_than_its_column_is_cut(platform: Platform, platform_app: Celery) -> None:
    """The catalog's keys are identifiers of at most 128 characters; a longer one must not break the ledger."""
    spec = TaskSpec("process_conversation_message_task", "conversations", catalog.PROCESS_MESSAGE.payload, key="text")
    id = platform.tasks.submit(spec, {"conversation_id": "c", "text": "x" * 1000}).task_id

    assert len(platform.row(id).key or "") == 200


def test_submissions_survive_everything_but_their_own_database(
    environment: Environment, redis_urls: RedisUrls, platform_database: Database, tmp_path: Path
) -> None:
    """A second process on the same servers sees what the first accepted."""
    settings = settings_for(environment, platform_database, redis_urls, folder=tmp_path)
    with celery_on(settings) as app:
        id = make_platform(settings, app, platform_database, valkey=redis_urls.valkey).message(id="kept")
    with closing(Database(settings.storage.url)) as second, celery_on(settings) as app:
        other = make_platform(settings, app, second, valkey=redis_urls.valkey)
        assert other.sent() == [id]
        assert other.end(other.start(id)) is State.COMPLETED


def manager(platform: Platform, **changes: int) -> TaskManager:
    """A task manager with other settings on the same servers."""
    return TaskManager(platform.database, platform.broker, platform.settings.tasks.model_copy(update=changes))


def webhook_payload() -> dict[str, object]:
    return {"url": "https://example.com/hook", "event": "replied", "data": {}}


def brought_to(platform: Platform, state: State, *, conversation: str = "c-1") -> str:
    """A task of a conversation, in that state by the usual way."""
    if state is State.HELD:
        platform.start(platform.message(conversation, text="the one before"))
    id = platform.message(conversation, delay=60 if state is State.SCHEDULED else 0)
    if state is State.HELD:
        platform.refusal(id)
    elif state is State.CANCELLED:
        platform.tasks.cancel(id)
    elif state in (State.PROCESSING, State.COMPLETED, State.FAILED, State.DEAD_LETTER):
        run = platform.start(id)
        never = platform.executions.policy(max_retries=0)
        outcomes = {State.COMPLETED: Completed({}), State.FAILED: Raised(ValueError("wrong")),
                    State.DEAD_LETTER: Raised(OSError("away"))}  # fmt: skip
        if state is not State.PROCESSING:
            platform.end(run, outcomes[state], policy=never)
    assert platform.state(id) == state
    return id
