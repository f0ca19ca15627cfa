"""Tasks of one ordering key: one at a time, in the order in which they were put, and never stuck. On the engine."""

from __future__ import annotations

import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from time import monotonic
from typing import Any

import pytest

from laneway.engine import Delivery, MessageState
from laneway.platform.errors import PermanentError, WorkerLost
from laneway.platform.execution.outcomes import Attempt, Completed, Outcome, Raised, Stopped
from laneway.platform.queues import Priority
from laneway.platform.registry import registry
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.submission.invalid_options import InvalidOptions
from laneway.schemas.payload import Payload
from laneway.schemas.task import TaskState
from tests.fixtures.platform import MovableClock, Platform, task_id_of
from tests.fixtures.waiting import wait_until

SOON, LATE = (0.3,), (600.0,)
AWAY = Raised(OSError("away"))


def test_a_task_is_held_while_the_one_before_runs(platform: Platform) -> None:
    first, second, third = (platform.message() for _ in range(3))
    attempt = platform.start()

    assert platform.places() == {first: MessageState.LEASED, second: MessageState.HELD, third: MessageState.HELD}
    assert platform.fetch() is None
    assert platform.tasks.status(third).waiting_for == f"an earlier task of conversation_id:c-1 (task {first})"

    platform.end(attempt, ack=False)
    assert platform.places()[second] is MessageState.HELD, "until the acknowledgement it is not over"
    platform.engine.ack([platform.deliveries[first]])
    assert platform.places() == {second: MessageState.READY, third: MessageState.HELD}


def test_a_task_waits_for_an_earlier_one_that_has_not_started(platform: Platform) -> None:
    first, second = platform.message(), platform.message()

    assert platform.places() == {first: MessageState.READY, second: MessageState.HELD}


def test_a_task_waits_for_an_earlier_one_that_is_due_later(platform: Platform) -> None:
    first, second = platform.message(delay=0.3), platform.message()

    assert platform.places() == {first: MessageState.SCHEDULED, second: MessageState.HELD}
    assert wait_until(platform.work, seconds=5) == first
    assert platform.work() == second


def test_tasks_of_different_keys_do_not_wait_for_each_other(platform: Platform) -> None:
    ids = [platform.message(f"c-{number}") for number in range(3)]

    assert [task_id_of(platform.fetched()) for _ in ids] == ids


def test_tasks_without_a_key_do_not_wait_for_each_other(platform: Platform) -> None:
    ids = [platform.chore() for _ in range(3)]

    assert [task_id_of(platform.fetched("maintenance")) for _ in ids] == ids


@pytest.mark.parametrize(
    "outcome",
    [Completed({}), Raised(ValueError("wrong")), Raised(PermanentError("no")), Stopped()],
    ids=["completed", "failed", "refused", "cancelled"],
)
def test_the_next_task_is_ready_when_the_head_is_finished(platform: Platform, outcome: Outcome) -> None:
    first, second, third = (platform.message() for _ in range(3))

    assert platform.work(outcome=outcome) == first

    assert platform.places() == {second: MessageState.READY, third: MessageState.HELD}
    assert [platform.work(), platform.work(), platform.work()] == [second, third, None]


def test_the_next_task_is_ready_when_the_head_is_a_dead_letter(platform: Platform) -> None:
    first, second = platform.message(), platform.message()
    for _ in range(platform.settings.tasks.max_retries + 1):
        assert platform.work(outcome=AWAY, schedule=(0.0,)) == first

    assert platform.state(first) == TaskState.DEAD_LETTER
    assert platform.work() == second


@pytest.mark.parametrize("head", [MessageState.READY, MessageState.SCHEDULED, MessageState.HELD])
def test_the_next_task_is_ready_when_a_waiting_one_is_cancelled(platform: Platform, head: MessageState) -> None:
    before = platform.message() if head is MessageState.HELD else None
    first = platform.message(delay=60 if head is MessageState.SCHEDULED else 0)
    second = platform.message()
    assert platform.places()[first] is head

    platform.tasks.cancel(first)

    assert first not in platform.places()
    assert platform.work() == (before or second)
    assert platform.work() == (second if before else None)


def test_the_others_are_held_while_the_head_waits_for_its_retry(platform: Platform) -> None:
    first, second, third = (platform.message() for _ in range(3))

    assert platform.work(outcome=AWAY, schedule=LATE) == first

    assert platform.places() == {first: MessageState.SCHEDULED, second: MessageState.HELD, third: MessageState.HELD}
    (retry,) = platform.messages(state=MessageState.SCHEDULED)
    assert retry.stored.message.key == "conversation_id:c-1"
    assert platform.work() is None
    assert platform.tasks.status(second).waiting_for == f"an earlier task of conversation_id:c-1 (task {first})"


def test_a_retry_runs_when_it_is_due_and_before_those_behind_it(platform: Platform) -> None:
    ids = [platform.message() for _ in range(3)]
    platform.work(outcome=AWAY, schedule=SOON)
    assert platform.work() is None, "it is not due"

    assert wait_until(platform.work, seconds=5) == ids[0]

    assert [platform.work(), platform.work()] == ids[1:]
    assert [platform.row(id).attempts for id in ids] == [2, 1, 1]


@pytest.mark.parametrize("end", ["acknowledged", "lost"])
def test_a_retry_keeps_its_position_however_its_delivery_ends(platform: Platform, end: str) -> None:
    """A crash between the end of the attempt and the acknowledgement must not let the next task overtake."""
    first, second = platform.message(), platform.message()
    delivery = platform.fetched()
    attempt = platform.begun(delivery)
    assert isinstance(attempt, Attempt)
    platform.attempts.finish(attempt, platform.attempts.policy.decide(attempt, AWAY, schedule=LATE))
    assert platform.places() == {first: MessageState.LEASED, second: MessageState.HELD}

    if end == "acknowledged":
        platform.engine.ack([delivery])
    else:
        platform.engine.renew([delivery], lease_ms=0)
        assert platform.fetch() is None

    assert platform.places() == {first: MessageState.SCHEDULED, second: MessageState.HELD}
    assert platform.state(first) == TaskState.SCHEDULED


def test_after_a_cancelled_retry_the_next_task_is_ready(platform: Platform) -> None:
    first, second = platform.message(), platform.message()
    platform.work(outcome=AWAY, schedule=LATE)

    platform.tasks.cancel(first)

    assert platform.work() == second


def test_the_order_within_a_key_ignores_priority(platform: Platform) -> None:
    first = platform.message(priority=Priority.LOW)
    urgent = platform.message(priority=Priority.CRITICAL)
    other = platform.message("c-2", priority=Priority.HIGH)

    assert [platform.work() for _ in range(3)] == [other, first, urgent]


def test_a_task_that_is_retried_by_hand_goes_to_the_end_of_its_key(platform: Platform) -> None:
    first, second, third = (platform.message() for _ in range(3))
    platform.work(outcome=Raised(ValueError("wrong")))
    platform.tasks.retry(first)

    assert [platform.work() for _ in range(3)] == [second, third, first]


def test_the_message_of_a_dead_worker_is_delivered_again_before_those_behind_it(platform: Platform) -> None:
    ids = [platform.message() for _ in range(3)]
    platform.begun(platform.fetched(lease=0.1), worker="dead")
    assert platform.fetch() is None

    again = wait_until(platform.fetch, seconds=5)

    assert again is not None
    assert (task_id_of(again), again.deliveries) == (ids[0], 2)
    attempt = platform.begun(again, worker="heir")
    assert isinstance(attempt, Attempt)
    assert (attempt.number, platform.fetch()) == (2, None)
    platform.end(attempt)
    assert [platform.work(), platform.work()] == ids[1:]


def test_a_task_that_lost_its_process_is_run_again_before_those_behind_it(platform: Platform) -> None:
    """The main process of the worker finishes the attempt and acknowledges the message."""
    ids = [platform.message() for _ in range(3)]
    attempt = platform.start()

    platform.attempts.finish_for(
        ids[0],
        "conversations",
        Raised(WorkerLost("worker-1")),
        spec=registry["process_conversation_message_task"],
        how="lost",
        worker="worker-1",
        lease=str(attempt.lease),
    )
    platform.engine.ack([platform.deliveries[ids[0]]])

    assert [platform.work() for _ in range(3)] == ids


def test_a_key_goes_on_when_its_heads_workers_died_for_good(platform: Platform) -> None:
    first, second = platform.message(), platform.message()
    for number in range(platform.settings.tasks.max_retries + 1):
        platform.start(worker=f"victim-{number}")
        platform.engine.renew([platform.deliveries[first]], lease_ms=0)

    assert platform.work(worker="survivor") is None, "too many were lost: it is not run again"

    assert platform.state(first) == TaskState.DEAD_LETTER
    assert platform.work(worker="survivor") == second


@pytest.mark.parametrize(
    "keys",
    [
        ("\u65e5" * 120 + "1", "\u65e5" * 120 + "2"),
        ("\u65e5" * 61 + "k", "\u65e5" * 62),
        ("\u00e9" * 150 + "1", "\u00e9" * 150 + "2"),
        ("\U0001f600" * 90, "\U0001f600" * 91),
        ("k" * 154 + "1", "k" * 154 + "2"),
        ("\u65e5\u672c", "\u65e5\u6728"),
        ("e\u0301", "\u00e9"),
        ("a:b", "a:c"),
    ],
)
def test_long_and_foreign_keys_stay_distinct(platform: Platform, keys: tuple[str, str]) -> None:
    """The tasks of the application have short keys. A task of another project may have any key."""
    one, other, behind = (about(platform, key) for key in (*keys, keys[0]))

    assert platform.places() == {one: MessageState.READY, other: MessageState.READY, behind: MessageState.HELD}
    assert all(len((platform.row(id).key or "").encode()) <= 200 for id in (one, other))
    assert [platform.work() for _ in range(3)] == [one, other, behind]


def test_a_long_key_stays_the_same_through_a_retry_and_a_loss(platform: Platform, movable_clock: MovableClock) -> None:
    ids = [about(platform, "\u65e5" * 150) for _ in range(2)]
    platform.work(outcome=AWAY, schedule=LATE)
    assert platform.places() == {ids[0]: MessageState.SCHEDULED, ids[1]: MessageState.HELD}

    platform.recorder.catch_up()
    platform.lose("conversations")
    movable_clock.forward(60)
    platform.maintenance().reconcile()

    assert platform.places() == {ids[0]: MessageState.SCHEDULED, ids[1]: MessageState.HELD}


def test_a_key_given_at_submit_orders_its_tasks_and_is_kept_by_retries(platform: Platform) -> None:
    given = SubmitOptions(key="ada")
    first = platform.tasks.submit("cleanup_old_data_task", {}, options=given).task_id
    with platform.tasks.transaction() as transaction:
        second = transaction.submit("cleanup_old_data_task", {}, options=given).task_id
    other = platform.chore()

    assert platform.places("maintenance") == {
        first: MessageState.READY,
        second: MessageState.HELD,
        other: MessageState.READY,
    }
    assert platform.work("maintenance", outcome=Raised(ValueError("wrong"))) == first
    platform.tasks.retry(first)
    assert {found.stored.message.key for found in platform.messages("maintenance", MessageState.HELD)} == {"ada"}
    assert platform.work("maintenance", outcome=Raised(ValueError("wrong"))) in (second, other)
    assert platform.tasks.retry_many([platform.row(id) for id in (second, other)])[0] == 1
    assert platform.row(first).key == platform.row(second).key == "ada"


@pytest.mark.parametrize("key", ["", "a\x00b", 7])
def test_a_key_that_is_no_text_is_refused(platform: Platform, key: Any) -> None:
    with pytest.raises(InvalidOptions, match=r"cleanup_old_data_task .* key: give a text"):
        platform.tasks.submit("cleanup_old_data_task", {}, options=SubmitOptions(key=key))
    assert platform.rows() == []


class Subject(Payload):
    """A payload with any text as its key."""

    subject: str


def about(platform: Platform, subject: str) -> str:
    """Submit a task with this key; returns its id."""
    spec = replace(registry["process_conversation_message_task"], payload=Subject, key="subject")
    return platform.tasks.submit(spec, {"subject": subject}).task_id


def test_a_conversation_and_another_kind_of_task_of_it_share_one_key(platform: Platform) -> None:
    first = platform.message("c-1")
    second = platform.tasks.submit(
        "continue_conversation_async_task", {"conversation_id": "c-1", "reason": "no_reply"}
    ).task_id

    assert platform.places() == {first: MessageState.READY, second: MessageState.HELD}


def test_many_workers_keep_the_order_of_every_key_through_failures_and_losses(platform: Platform) -> None:
    """Workers fail or die at random. The lease of a dead worker ends, and another worker gets the task."""
    conversations, each = [f"c-{number}" for number in range(5)], 8
    put = [(name, platform.message(name, text=str(number))) for number in range(each) for name in conversations]
    left = {id for _, id in put}
    workers = [RandomWorker(platform, f"w{number}", left) for number in range(4)]

    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(worker.work) for worker in workers]
        wait_until(lambda: all(future.done() for future in done), seconds=90)
        for future in done:
            future.result()

    platform.recorder.catch_up()
    assert {row.state for row in platform.rows()} == {"completed"}
    began = sorted(itertools.chain.from_iterable(worker.began for worker in workers))
    assert sum(worker.deaths for worker in workers) > 3, "the test did not meet what it is about"
    assert len(began) > len(put) + 10, "nor this"
    for name in conversations:
        ids = [id for _, key, id in began if key == f"conversation_id:{name}"]
        turns = [id for id, _ in itertools.groupby(ids)]
        assert turns == [id for conversation, id in put if conversation == name], "each ran to its end in its turn"


class RandomWorker:
    """Take messages until none is `left`; `began` collects the start, attempt and key of each run."""

    def __init__(self, platform: Platform, name: str, left: set[str]) -> None:
        self.platform, self.name, self.left = platform, name, left
        self.began: list[tuple[float, str | None, str]] = []
        self.deaths = 0
        self.dice, self.pause = random.Random(name), Event()

    def work(self) -> None:
        while self.left:
            dies = self.deaths < 3 and self.dice.random() < 0.2
            delivery = self.platform.fetch(lease=0.2 if dies else 30)
            if delivery is None:
                self.pause.wait(0.01)
                continue
            at = monotonic()
            attempt = self.platform.begun(delivery, worker=self.name)
            if isinstance(attempt, Attempt):
                self.began.append((at, delivery.stored.message.key, attempt.task_id))
                self.ran(attempt, delivery, dies=dies)

    def ran(self, attempt: Attempt, delivery: Delivery, *, dies: bool) -> None:
        if dies and attempt.number <= 2:
            self.deaths += 1
            return
        fails = attempt.number <= 2 and self.dice.random() < 0.3
        attempt.max_retries = 9
        ruling = self.platform.attempts.policy.decide(attempt, AWAY if fails else Completed({}), schedule=(0.0,))
        if self.platform.attempts.finish(attempt, ruling) and ruling.state is TaskState.COMPLETED:
            self.left.discard(attempt.task_id)
        self.platform.engine.ack([delivery])
