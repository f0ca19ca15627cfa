"""Every end of a task is in the history, also of a task that never starts, and the broker keeps nothing of it."""

from __future__ import annotations

import re
import time

from laneway.engine import Message, MessageState
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.schemas.task import TaskState
from tests.fixtures.site import Site
from tests.fixtures.tasks_for_tests import DEAF, FAILING, GATED, GATED_QUIETLY, REJECTING, SNOOZING
from tests.fixtures.waiting import wait_until

UNREADABLE = {
    "bytes that are no text": b"\xff\xfe\x00\xff",
    "nothing": b"",
    "text that is no JSON": b"{}\0hello",
    "no call": b'{}\0{"a": 1}',
    "a call of nothing": b'{}\0["a", "b", "c"]',
    "a number": b"\x007",
    "headers that are none": b'["x"]\0[[], {}, {}]',
    "a body that is not what it is said to be": b'{"h": {"compression": "application/x-gzip"}}\0abc',
}


def ended(site: Site, id: str) -> tuple[TaskState, list[str | None], str | None]:
    """A task's state, the outcomes of its attempts, and its error type, from the history."""
    wait_until(lambda: site.rows([id]), seconds=30)
    run = site.until(id)
    assert run.finished_at is not None
    return (
        TaskState(run.state),
        [attempt.outcome for attempt in site.services.event_stream.attempts(id)],
        run.error_type,
    )


def left_in(site: Site, queue: str) -> list[str]:
    """The tasks whose messages the broker still has, without dead letters."""
    engine = site.services.broker.engine
    assert engine is not None
    places = (MessageState.READY, MessageState.SCHEDULED, MessageState.HELD, MessageState.LEASED)
    return [one.stored.message.task_id for place in places for one in engine.peek(queue, place)]


def until_nothing_is_left(site: Site) -> None:
    """Wait until the broker has no message left, as the history says."""
    wait_until(lambda: not left_in(site, "conversations") + left_in(site, "analytics"), seconds=20)
    count = site.services.audit.run()
    assert count.balanced, count


def test_exceeded_time_limits_are_in_the_history(site: Site) -> None:
    worker = site.worker("limits", TASK_SOFT_TIME_LIMIT="2", TASK_TIME_LIMIT="3")
    soft = site.submit(GATED_QUIETLY, {"gate": str(site.gate())})
    hard = site.submit(DEAF, {})

    site.until_event("began", soft, attempt=2)
    site.services.tasks.cancel(soft)

    state, outcomes, _ = ended(site, soft)
    assert (state, outcomes[0]) == (TaskState.CANCELLED, "retry")
    assert site.services.event_stream.attempts(soft)[0].error == "The task ran longer than its limit of 2 s."
    assert ended(site, hard) == (TaskState.DEAD_LETTER, ["retry", "dead_letter"], "TimeLimitExceeded")
    assert "limit of 3 s" in str(site.row(hard).error)
    until_nothing_is_left(site)
    assert not worker.ended


def test_a_task_that_rejects_its_message_becomes_a_dead_letter(site: Site) -> None:
    site.worker(concurrency=1)

    id = site.submit(REJECTING, {})

    assert ended(site, id) == (TaskState.DEAD_LETTER, ["dead_letter"], "Reject")
    until_nothing_is_left(site)


def test_a_task_of_an_unknown_name_becomes_a_dead_letter_that_can_be_shown(site: Site) -> None:
    worker = site.worker(concurrency=1, TASK_HAND_ON_SECONDS="0")

    id = str(site.app.send_task("no_such_task", args=[1], kwargs={"b": 2}, queue="analytics"))

    assert ended(site, id) == (TaskState.DEAD_LETTER, [], "Undeliverable")
    run = site.row(id)
    assert (run.name, run.payload) == ("no_such_task", {"b": 2, "args": [1]})
    assert run.raw
    until_nothing_is_left(site)
    assert not worker.ended


def test_unreadable_messages_become_dead_letters_with_their_bytes_and_disturb_no_other(site: Site) -> None:
    engine = site.services.broker.engine
    assert engine is not None
    site.services.broker.prepare()
    for number, body in enumerate(UNREADABLE.values()):
        engine.put(
            "analytics", Message(task_id=f"unreadable-{number}", name="generate_performance_report_task", body=body)
        )
    worker = site.worker(concurrency=1)

    found = {what: ended(site, f"unreadable-{number}") for number, what in enumerate(UNREADABLE)}
    assert found == dict.fromkeys(UNREADABLE, (TaskState.DEAD_LETTER, [], "Undeliverable"))
    assert [site.row(f"unreadable-{number}").raw for number in range(len(UNREADABLE))] == list(UNREADABLE.values())
    assert (
        site.until(site.message("after-unreadable")).state == TaskState.COMPLETED
    )  # the worker and the recorder still work
    until_nothing_is_left(site)
    assert not worker.ended


def test_a_task_that_does_not_start_in_time_expires(site: Site) -> None:
    late = site.submit(FAILING, {"times": 0}, options=SubmitOptions(expires=0.5))
    delayed = site.submit(FAILING, {"times": 0}, options=SubmitOptions(delay=1, expires=0.5))
    in_time = site.submit(FAILING, {"times": 0}, options=SubmitOptions(expires=600))
    accepted = time.monotonic()
    wait_until(lambda: time.monotonic() > accepted + 1, seconds=5)

    site.worker(concurrency=1)

    assert ended(site, in_time)[:2] == (TaskState.COMPLETED, ["completed"])
    for id in (late, delayed):
        assert ended(site, id)[:2] == (TaskState.EXPIRED, [])
        assert site.events(id) == []
    until_nothing_is_left(site)

    site.services.tasks.retry(late)  # on the worker that expired it

    assert ended(site, late)[:2] == (TaskState.COMPLETED, ["completed"])


def test_a_task_that_started_in_time_may_be_retried_after_its_expiry(site: Site) -> None:
    site.worker(concurrency=1)
    id = site.submit(SNOOZING, {"times": 12}, options=SubmitOptions(expires=2))

    assert ended(site, id)[0] == TaskState.COMPLETED
    run = site.row(id)
    assert run.finished_at is not None
    assert run.expires_at is not None
    assert run.finished_at > run.expires_at


def test_a_task_sent_with_celery_call_is_in_the_history(site: Site) -> None:
    site.worker(concurrency=1)
    gate = site.gate()

    good = celery_call(site, GATED.name, f'{{"gate": "{gate}"}}')
    bad = celery_call(site, FAILING.name, '{"times": "often"}')

    site.until_event("began", good)
    assert site.row(good).state == TaskState.PROCESSING
    gate.open()
    assert ended(site, good) == (TaskState.COMPLETED, ["completed"], None)
    assert ended(site, bad) == (TaskState.FAILED, ["failed"], "InvalidPayload")
    until_nothing_is_left(site)


def celery_call(site: Site, name: str, kwargs: str) -> str:
    """Send a task with `celery call`; returns its id."""
    node = site.start(
        "call",
        "celery",
        "-A",
        "tests.fixtures.celery_app:celery_app",
        "call",
        name,
        "--kwargs",
        kwargs,
        "--queue",
        "conversations",
    )
    assert node.process.wait(40) == 0, node.output()
    found = re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", node.output())
    assert found, node.output()
    return found[0]
