"""Tasks of one ordering key: one at a time, in the order of submission, and never stuck."""

# The moments between the steps of a claim are what is tested here.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest
from sqlalchemy import true

from app.core.queues import Priority
from app.core.retry import RetryPolicy
from app.db.models import TaskRun
from app.db.repositories import task_runs
from app.schemas.task import State
from app.services.executions import Completed, Executions, Outcome, Raised, Stopped
from tests.fixtures.platform import MovableClock, Platform
from tests.fixtures.waiting import wait_until

AT_ONCE = RetryPolicy(max_retries=3, delay=0, delay_max=0)
NEVER = RetryPolicy(max_retries=0, delay=0, delay_max=0)


def test_a_task_waits_for_the_one_before_and_is_held(platform: Platform) -> None:
    first, second = platform.message(), platform.message()
    platform.start(first)

    assert platform.refusal(second) == "an earlier task of its key is not finished"
    assert platform.state(second) == State.HELD


def test_a_task_waits_also_for_one_that_has_not_started(platform: Platform) -> None:
    first, second = platform.message(), platform.message()

    platform.refusal(second)

    assert platform.state(second) == State.HELD
    assert platform.end(platform.start(first)) is State.COMPLETED


def test_tasks_of_different_keys_do_not_wait_for_each_other(platform: Platform) -> None:
    ids = [platform.message(f"c-{number}") for number in range(3)]

    assert [platform.start(id).state for id in ids] == ["processing"] * 3


def test_tasks_without_a_key_do_not_wait_for_each_other(platform: Platform) -> None:
    assert [platform.start(platform.chore()).state for _ in range(3)] == ["processing"] * 3


@pytest.mark.parametrize(
    "outcome", [Completed({}), Raised(ValueError("wrong")), Raised(OSError("away")), Stopped()],
    ids=["completed", "failed", "dead letter", "cancelled"],
)  # fmt: skip
def test_the_next_one_is_sent_when_the_head_is_over(platform: Platform, outcome: Outcome) -> None:
    first, second, third = (platform.message() for _ in range(3))
    run = platform.start(first)
    platform.refusal(second)
    platform.refusal(third)
    platform.lose("conversations")

    platform.end(run, outcome, policy=NEVER)

    assert platform.sent() == [second]
    assert (platform.state(second), platform.state(third)) == (State.PENDING, State.HELD)
    assert platform.start(second).attempts == 1


@pytest.mark.parametrize("head", [State.PENDING, State.SCHEDULED, State.HELD])
def test_the_next_one_is_sent_when_a_waiting_head_is_cancelled(platform: Platform, head: State) -> None:
    running = platform.start(platform.message()) if head is State.HELD else None
    first = platform.message(delay=60 if head is State.SCHEDULED else 0)
    second = platform.message()
    if head is State.HELD:
        platform.refusal(first)
    platform.refusal(second)
    platform.lose("conversations")

    platform.tasks.cancel(first)

    if running is None:
        assert platform.sent() == [second]
    else:
        assert platform.sent() == [], "one of the key still runs"
        platform.end(running)
        assert platform.sent() == [second]


def test_the_next_one_waits_while_the_head_is_scheduled_for_a_retry(
    platform: Platform, movable_clock: MovableClock
) -> None:
    first, second = platform.message(), platform.message()
    run = platform.start(first)
    platform.refusal(second)
    platform.lose("conversations")

    assert platform.end(run, Raised(OSError("away"))) is State.SCHEDULED
    steward = platform.steward()

    assert steward.send_released() == 0
    assert platform.sent() == []
    assert platform.state(second) == State.HELD
    movable_clock.forward(120)
    assert steward.send_due() == 1
    assert platform.sent() == [first]
    platform.end(platform.start(first))
    assert platform.sent() == [first, second]


def test_the_order_of_submission_outranks_priority_within_a_key(platform: Platform) -> None:
    first = platform.message(priority=Priority.LOW)
    urgent = platform.message(priority=Priority.CRITICAL)

    assert platform.take() == urgent
    platform.refusal(urgent)
    assert platform.end(platform.start(first)) is State.COMPLETED
    assert platform.end(platform.start(urgent)) is State.COMPLETED


def test_a_task_that_is_retried_by_hand_takes_its_old_place(platform: Platform) -> None:
    first, second, third = (platform.message() for _ in range(3))
    platform.end(platform.start(first), Raised(ValueError("wrong")))
    run = platform.start(second)
    platform.tasks.retry(first)

    assert platform.refusal(first) == "an earlier task of its key is not finished"
    assert platform.refusal(third) == "an earlier task of its key is not finished"
    platform.lose("conversations")
    assert platform.steward().send_released() == 0, "the second still runs"
    platform.end(run)
    assert platform.sent() == [first]
    platform.end(platform.start(first))
    assert platform.sent() == [first, third]


def test_the_head_finishes_between_the_refusal_and_the_hold(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It saw nobody to release, because nobody was held yet: the second look finds that the turn has come."""
    first, second = platform.message(), platform.message()
    head, look, looks = platform.start(first), Executions._try_claim, list[bool]()

    def try_claim(self: Executions, id: str, *, worker: str) -> TaskRun | None:
        claimed = look(self, id, worker=worker)
        looks.append(claimed is not None)
        if len(looks) == 1:
            assert platform.end(head) is State.COMPLETED
            assert platform.state(second) == State.PENDING, "nothing was held, nothing was released"
        return claimed

    monkeypatch.setattr(Executions, "_try_claim", try_claim)

    assert platform.start(second).attempts == 1
    assert looks == [False, True]


def test_the_head_finishes_between_the_hold_and_the_second_look(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It releases the held task, which the second look may claim all the same; the extra message is refused."""
    first, second = platform.message(), platform.message()
    platform.lose("conversations")
    head, hold = platform.start(first), task_runs.hold
    held = Event()

    def hold_then_wait(session: object, id: str) -> bool:
        answer = hold(session, id)  # pyright: ignore[reportArgumentType]
        held.set()
        return answer

    monkeypatch.setattr(task_runs, "hold", hold_then_wait)
    look = Executions._try_claim

    def try_claim(self: Executions, id: str, *, worker: str) -> TaskRun | None:
        if held.is_set():
            assert platform.end(head) is State.COMPLETED
            assert platform.sent() == [second]
        return look(self, id, worker=worker)

    monkeypatch.setattr(Executions, "_try_claim", try_claim)

    assert platform.start(second).attempts == 1
    monkeypatch.undo()
    assert platform.take() == second
    assert platform.refusal(second) == "it is processing"


def test_settle_and_claim_at_the_same_moment_never_strand_the_next_task(platform: Platform) -> None:
    for round in range(25):
        first, second = platform.message(f"c-{round}"), platform.message(f"c-{round}")
        head = platform.start(first)
        platform.lose("conversations")
        together = Barrier(2)

        def settle(head: TaskRun = head, together: Barrier = together) -> State | None:
            together.wait(10)
            return platform.end(head)

        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(settle)
            together.wait(10)
            claimed = platform.executions.claim(second, worker="w")
            assert ended.result(10) is State.COMPLETED

        if not isinstance(claimed, TaskRun):
            assert platform.sent() == [second], f"round {round}: refused, so it must have been released"
            platform.start(second)
        assert platform.state(second) == State.PROCESSING


def test_two_tasks_of_one_key_claimed_at_the_same_moment_do_not_both_run(platform: Platform) -> None:
    for round in range(15):
        ids, together = [platform.message(f"c-{round}", text=str(n)) for n in range(4)], Barrier(4)

        def claim(id: str, together: Barrier = together) -> bool:
            together.wait(10)
            return isinstance(platform.executions.claim(id, worker="w"), TaskRun)

        with ThreadPoolExecutor(4) as pool:
            won = list(pool.map(claim, ids))

        assert won == [True, False, False, False]


def test_the_database_itself_refuses_two_running_tasks_of_one_key(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim whose look at the others is out of date meets the unique index, and is refused, not an error."""
    first, second = platform.message(), platform.message()
    platform.start(first)
    monkeypatch.setattr(task_runs, "_first_of_its_key", true)

    assert platform.refusal(second) == "an earlier task of its key is not finished"
    assert platform.state(second) == State.HELD


def test_many_workers_keep_the_order_of_every_key(platform: Platform) -> None:
    """Real deliveries: workers take messages, claim, record, settle, until nothing is left."""
    workers, keys, each = 4, 5, 6
    submitted = {key: [platform.message(f"c-{key}", text=str(n)) for n in range(each)] for key in range(keys)}
    ran: list[str] = []
    running: set[str] = set()

    def work(number: int) -> None:
        while len(ran) < keys * each:
            id = platform.take()
            claimed = platform.executions.claim(id, worker=f"w{number}") if id else None
            if not isinstance(claimed, TaskRun):
                continue
            key = claimed.key or ""
            assert key not in running
            running.add(key)
            ran.append(claimed.id)
            running.discard(key)
            assert platform.end(claimed) is State.COMPLETED

    with ThreadPoolExecutor(workers) as pool:
        done = [pool.submit(work, number) for number in range(workers)]
        wait_until(lambda: all(future.done() for future in done), seconds=60)
        for future in done:
            future.result()

    assert len(ran) == len(set(ran)) == keys * each
    for ids in submitted.values():
        assert [id for id in ran if id in ids] == ids
    assert {row.state for row in platform.rows()} == {"completed"}
