"""The messages of one conversation are answered in order, one at a time, even if workers die."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise

from laneway.engine import MessageState
from laneway.platform.db.models import TaskRun
from laneway.schemas.task import TaskState
from tests.fixtures.budget import budget
from tests.fixtures.site import Site, seconds_between
from tests.fixtures.tasks_for_tests import FAILING, GATED

Report = Callable[[str, object], None]

CONVERSATIONS, MESSAGES = 10, budget(short=10, long=20)


def test_three_workers_answer_the_messages_of_a_conversation_in_order_and_one_at_a_time(
    site: Site, figure: Report
) -> None:
    workers = [site.begin_worker(f"order-{number}") for number in range(3)]
    for worker in workers:
        site.until_reported(worker)
    ids: list[str] = []
    for number in range(MESSAGES):
        for conversation in range(CONVERSATIONS):
            if (number, conversation) == (5, 3):  # a message that fails twice delays its own conversation only
                ids.append(site.submit(FAILING, {"times": 2, "conversation_id": "order-3"}, id="flaky"))
            if (number, conversation) == (5, 4):  # another message kills its process
                ids.append(site.submit(FAILING, {"times": 1, "how": "kill", "conversation_id": "order-4"}, id="deadly"))
            ids.append(site.message(f"order-{conversation}", f"question {number}"))

    runs = site.until_all_over(ids, seconds=90)

    assert {run.state for run in runs} == {TaskState.COMPLETED}
    begun, finished = runs[0].accepted_at, max(run.finished_at for run in runs if run.finished_at)
    figure(
        f"{len(ids)} messages of {CONVERSATIONS} conversations by 3 workers",
        f"{seconds_between(begun, finished):.1f} s",
    )
    assert len({run.worker for run in runs}) == 3
    for conversation in range(CONVERSATIONS):
        turns = site.turns(f"order-{conversation}")
        assert [turn.role for turn in turns] == ["customer", "assistant"] * MESSAGES
        assert [turn.text for turn in turns[::2]] == [f"question {number}" for number in range(MESSAGES)]
    intervals = by_key(runs)
    assert sorted(map(len, intervals.values())) == [MESSAGES] * (CONVERSATIONS - 2) + [MESSAGES + 1] * 2
    for some in intervals.values():
        assert all(
            first.finished_at <= then.started_at
            for first, then in pairwise(some)
            if first.finished_at and then.started_at
        )
    assert (site.row("flaky").attempts, site.row("deadly").attempts) == (3, 2)


def by_key(runs: list[TaskRun]) -> dict[str | None, list[TaskRun]]:
    """Ordering key → its tasks, in the order of submission."""
    found: dict[str | None, list[TaskRun]] = defaultdict(list)
    for run in runs:
        found[run.key].append(run)
    return found


def test_later_messages_of_a_conversation_wait_for_a_retried_one(site: Site) -> None:
    site.worker("retried", TASK_RETRY_DELAY="1")
    gate = site.gate()
    first = site.submit(FAILING, {"times": 2, "conversation_id": "k"})
    second = site.submit(GATED, {"gate": str(gate), "conversation_id": "k"})
    third = site.submit(FAILING, {"times": 0, "conversation_id": "k"})
    other = site.submit(FAILING, {"times": 0, "conversation_id": "another"})

    assert site.until(other).state == TaskState.COMPLETED
    site.until_event("began", second)
    assert site.until(first).state == TaskState.COMPLETED
    assert site.services.tasks.status(third).waiting_for == f"an earlier task of conversation_id:k (task {second})"
    gate.open()

    assert {run.state for run in site.until_all_over([first, second, third])} == {TaskState.COMPLETED}
    of_key = [(event, id) for event, id, *_ in site.events() if id in (first, second, third)]
    assert of_key == [("began", first)] * 3 + [
        ("ended", first),
        ("began", second),
        ("ended", second),
        ("began", third),
        ("ended", third),
    ]


def test_later_messages_of_a_conversation_wait_for_one_whose_worker_died(site: Site) -> None:
    gate = site.gate()
    worker = site.worker("dying")
    first = site.submit(GATED, {"gate": str(gate), "conversation_id": "d"})
    site.until_event("began", first)
    second = site.submit(FAILING, {"times": 0, "conversation_id": "d"})
    assert site.message_state(second) is MessageState.HELD

    worker.kill()
    site.worker("heir")
    site.until_event("began", first, attempt=2)
    assert (site.row(second).state, site.message_state(second)) == (TaskState.PENDING, MessageState.HELD)
    gate.open()

    assert {run.state for run in site.until_all_over([first, second])} == {TaskState.COMPLETED}
    assert [(event, attempt) for event, id, attempt, _ in site.events() if id in (first, second)] == [
        ("began", 1),
        ("began", 2),
        ("ended", 2),
        ("began", 1),
        ("ended", 1),
    ]
