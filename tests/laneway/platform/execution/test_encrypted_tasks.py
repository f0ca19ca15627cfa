"""Tasks with `encrypted=True`: rows, messages, journals, results and steps hold nothing that can be read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord, group

from app.services.container import Services
from laneway import Context, task
from laneway.platform.batches.batches import NewBatch
from laneway.platform.batches.callbacks import callback_id
from laneway.platform.celery_app import load_tasks
from laneway.platform.db.models import TaskStep
from laneway.platform.db.session import Database
from laneway.platform.errors import Conflict, InvalidPayload, UpstreamError
from laneway.platform.execution.celery_results import CeleryResults
from laneway.platform.execution.task import PlatformTask
from laneway.platform.history.adoption import fingerprint
from laneway.platform.history.task_views import describe_event
from laneway.platform.operations.reencryption import Amounts, Reencryption
from laneway.platform.registry import registry
from laneway.platform.sealing import SEALED, KeysMissing, is_sealed, opened
from laneway.platform.submission.submit_options import SubmitOptions
from laneway.platform.submission.transaction import Submission
from laneway.schemas.choices import BatchEvent
from laneway.schemas.feed import chunks_of
from laneway.schemas.payload import Payload
from laneway.schemas.task import TaskState
from laneway.transport.codec import call_of
from laneway.transport.key_ring import create_ring, read_ring, ring_file
from tests.fixtures.in_process_worker import platform_here, run_messages
from tests.fixtures.planted import keys_with, tables_with
from tests.fixtures.platform import Environment, celery_on, settings_for
from tests.fixtures.platform_driver import Platform
from tests.fixtures.valkey import RedisUrls, RunningValkey
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # Celery's result backend

QUEUE = "maintenance"
PLANTED = "planted-4711"
SOURCE = f"{__name__}.declared_tasks.<locals>.{{}}"


class Note(Payload):
    text: str
    customer: int = 7
    fails: bool = False


class Before(Payload):
    before: Any
    factor: int = 1


@cache
def declared_tasks() -> dict[str, PlatformTask]:
    """Declare the tasks, once."""

    @task(queue=QUEUE, key="customer", encrypted=True, retries=0)
    def sealed_note(ctx: Context, payload: Note) -> dict[str, Any]:
        kept = ctx.step("kept", lambda: {"text": payload.text})
        ctx.write(payload.text)
        if payload.fails:
            raise UpstreamError("the note", "as asked")
        return {"answer": kept["text"], "characters": len(payload.text)}

    @task(queue=QUEUE)
    def plain_count(ctx: Context, payload: Before) -> dict[str, Any]:
        found = payload.before if isinstance(payload.before, list) else [payload.before]
        return {"characters": sum(each["characters"] for each in found) * payload.factor}

    @task(queue=QUEUE, encrypted=True)
    def sealed_next(ctx: Context, payload: Before) -> dict[str, Any]:
        return {"again": payload.before["answer"]}

    return {each.name: each for each in (sealed_note, plain_count, sealed_next)}


class Sealed:
    """A platform with a key ring, and the tasks above in this process."""

    def __init__(self, platform: Platform, services: Services, ring: Path) -> None:
        self.platform, self.services, self.ring = platform, services, ring
        self.tasks: dict[str, Any] = {}
        for name, declared in declared_tasks().items():
            type(declared).platform = services  # pyright: ignore[reportAttributeAccessIssue] - a class of its own
            self.tasks[name] = platform.app.register_task(declared)

    def submit(self, **payload: Any) -> str:
        return self.platform.tasks.submit("sealed_note", {"text": PLANTED, **payload}).task_id

    def run(self) -> None:
        run_messages(self.platform, QUEUE)
        self.platform.recorder.catch_up()

    def result(self, sent: Any) -> Any:
        self.run()
        return opened(wait_until(lambda: sent.result if sent.ready() else None, seconds=10))

    def check_nothing_is_readable(self) -> None:
        """Search the whole database and the whole broker for the planted text."""
        assert not keys_with(PLANTED, self.platform.valkey)
        assert not tables_with(PLANTED, self.platform.database)


@pytest.fixture
def sealed(
    environment: Environment, platform_database: Database, redis_urls: RedisUrls, tmp_path: Path, valkey: RunningValkey
) -> Iterator[Sealed]:
    ring = tmp_path / "keys.json"
    create_ring(ring)
    settings = settings_for(environment, platform_database, redis_urls, folder=tmp_path, KEY_RING_FILE=str(ring))
    for declared in declared_tasks().values():
        registry.add(declared.spec, declared, source=SOURCE.format(declared.name))
    with platform_here(settings, platform_database, valkey) as (platform, services):
        yield Sealed(platform, services, ring)
    for name in declared_tasks():
        registry.remove(name)


def test_a_task_runs_on_its_payload_and_nothing_of_it_is_readable_where_it_is_stored(sealed: Sealed) -> None:
    id = sealed.submit()
    (waiting,) = sealed.platform.messages(QUEUE)
    assert call_of(waiting.stored.message)[1].keys() == {SEALED}
    sealed.check_nothing_is_readable()
    sealed.run()

    row = sealed.platform.row(id)
    assert (row.state, row.key) == (TaskState.COMPLETED, "customer:7")
    assert is_sealed(row.payload)
    assert is_sealed(row.result)
    sealed.check_nothing_is_readable()
    (output,) = [event for event in sealed.services.event_stream.events(id) if event.kind == "output"]
    assert chunks_of(describe_event(output))[0].value == PLANTED, "whoever may read the task gets it"
    status = sealed.platform.tasks.status(id)
    assert status.result == {"answer": PLANTED, "characters": 12}
    assert status.payload["text"] == PLANTED
    assert sealed.platform.app.AsyncResult(id).result == row.result


def test_a_failed_task_keeps_its_step_and_its_payload_unreadable_and_can_be_retried(sealed: Sealed) -> None:
    id = sealed.submit(fails=True)
    sealed.run()
    assert sealed.platform.row(id).state == TaskState.DEAD_LETTER
    with sealed.platform.database.reading() as session:
        step = session.get(TaskStep, (id, "kept"))
    assert step is not None
    assert is_sealed(step.result)
    sealed.check_nothing_is_readable()
    sealed.platform.tasks.retry(id)
    sealed.run()
    assert sealed.platform.row(id).attempts == 1
    assert sealed.platform.row(id).state == TaskState.DEAD_LETTER
    sealed.check_nothing_is_readable()


@pytest.mark.parametrize("how", ["delay", "apply_async", "send_task"])
def test_a_call_of_celery_is_sealed_and_keeps_its_ordering_key(sealed: Sealed, how: str) -> None:
    note, app = sealed.tasks["sealed_note"], sealed.platform.app
    sent = {
        "delay": lambda: note.delay(PLANTED, customer=8),
        "apply_async": lambda: note.apply_async((PLANTED, 8)),
        "send_task": lambda: app.send_task("sealed_note", (), {"text": PLANTED, "customer": 8}),
    }[how]()
    sealed.check_nothing_is_readable()
    (found,) = sealed.platform.messages(QUEUE)
    assert found.stored.message.key == "customer:8"
    assert sealed.result(sent) == {"answer": PLANTED, "characters": 12}
    sealed.check_nothing_is_readable()
    assert opened(sealed.platform.row(sent.id).payload)["text"] == PLANTED


def test_a_chain_passes_encrypted_results_to_plain_and_to_encrypted_tasks(sealed: Sealed) -> None:
    note, count, following = (sealed.tasks[name] for name in ("sealed_note", "plain_count", "sealed_next"))
    sent = chain(note.s(text=PLANTED), count.s(factor=2))()
    sealed.check_nothing_is_readable()
    assert sealed.result(sent) == {"characters": 24}
    sent = chain(note.s(text=PLANTED), following.s(), note.si(PLANTED, customer=9))()
    assert sealed.result(sent)["answer"] == PLANTED
    sealed.check_nothing_is_readable()


def test_a_chord_and_a_link_pass_encrypted_results_on(sealed: Sealed) -> None:
    note, count, following = (sealed.tasks[name] for name in ("sealed_note", "plain_count", "sealed_next"))
    sent = chord(group(note.s(text=PLANTED, customer=number) for number in (1, 2)))(count.s())
    assert sealed.result(sent) == {"characters": 24}
    note.apply_async((PLANTED,), link=following.s(factor=3))
    sealed.check_nothing_is_readable()
    sealed.run()
    sealed.check_nothing_is_readable()
    assert [row.state for row in sealed.platform.rows() if row.name == "sealed_next"] == [TaskState.COMPLETED]


def test_an_id_that_is_used_again_is_compared_by_what_was_encrypted(
    sealed: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = sealed.platform.tasks
    first = tasks.submit("sealed_note", {"text": PLANTED}, id="one")
    assert not tasks.submit("sealed_note", {"text": PLANTED}, id="one").created
    rotate(sealed, monkeypatch)
    assert not tasks.submit("sealed_note", {"text": PLANTED}, id="one").created
    with pytest.raises(Conflict):
        tasks.submit("sealed_note", {"text": "another"}, id="one")
    assert first.created


def test_an_id_that_is_used_again_after_its_key_was_removed_is_compared_by_what_is_stored(
    sealed: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = sealed.platform.tasks
    tasks.submit("sealed_note", {"text": PLANTED}, id="one")
    older = rotate(sealed, monkeypatch)
    reencryption(sealed).run()
    read_ring(sealed.ring).without(older).write(sealed.ring)
    monkeypatch.setattr(ring_file(sealed.ring), "_check_at", 0)
    assert not tasks.submit("sealed_note", {"text": PLANTED}, id="one").created
    with pytest.raises(Conflict):
        tasks.submit("sealed_note", {"text": "another"}, id="one")


def test_a_message_from_a_program_without_the_key_is_encrypted_in_the_history(sealed: Sealed) -> None:
    with celery_on(sealed.platform.settings.model_copy()) as other:
        other.amqp_cls = "laneway.worker.producer:AMQP"
        other.send_task(
            "sealed_note", (), {"text": PLANTED, "customer": 7, "fails": False}, task_id="foreign", queue=QUEUE
        )
    sealed.platform.recorder.catch_up()
    row = sealed.platform.row("foreign")
    assert is_sealed(row.payload)
    assert row.fingerprint != fingerprint("sealed_note", opened(row.payload))
    assert not sealed.platform.tasks.submit("sealed_note", {"text": PLANTED}, id="foreign").created


@pytest.mark.parametrize("name", ["sealed_note", "plain_count"])
def test_a_submission_cannot_bring_a_sealed_value_of_another_task(sealed: Sealed, name: str) -> None:
    stolen = sealed.platform.row(sealed.submit()).payload
    for payload in ({"before": stolen}, {"before": [stolen]}, {"before": 1, SEALED: "x"}, stolen):
        with pytest.raises(InvalidPayload):
            sealed.platform.tasks.submit(name, payload)


def rotate(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> str:
    """Add a key that is the current one at once; returns the id of the one before it."""
    ring = read_ring(sealed.ring)
    ring.rotated(overlap=timedelta(0)).write(sealed.ring)
    monkeypatch.setattr(ring_file(sealed.ring), "_check_at", 0)
    return ring.keys[0].id


def reencryption(sealed: Sealed) -> Reencryption:
    platform = sealed.platform
    return Reencryption(platform.database, platform.broker, CeleryResults(platform.app), platform.settings.tasks)


def test_stored_values_are_encrypted_again_with_the_new_key(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    note, count = sealed.tasks["sealed_note"], sealed.tasks["plain_count"]
    sent = chain(note.s(text=PLANTED), count.s())()
    ended = [sealed.submit() for _ in range(3)]
    sealed.run()
    waiting = sealed.submit()
    chained = chain(count.s(before=[]), note.si(text=PLANTED))()
    older = rotate(sealed, monkeypatch)
    work = reencryption(sealed)
    before = work.uses(older)
    assert before.messages == 2, "one of them carries an encrypted call in its chain"
    assert before.rows == 3 * 4 + 1 + 4 + 1, (
        "payload, result and output of the 4 notes, the chained payload, steps, waiting"
    )
    assert before.results == 5, "of the 4 notes, and the call of the chained task in its result"
    seen: list[Amounts] = []
    monkeypatch.setattr("laneway.platform.operations.reencryption.BATCH", 2)
    assert work.run(seen.append) == Amounts(rows=before.rows, results=5)
    assert seen[-1] == Amounts(rows=before.rows, results=5)
    assert len(seen) > 3
    assert work.uses(older) == Amounts(messages=2)
    assert [opened(sealed.platform.row(id).result)["answer"] for id in ended] == [PLANTED] * 3
    assert sealed.platform.row(sent.id).result == {"characters": 12}
    sealed.run()
    assert sealed.platform.row(waiting).state == TaskState.COMPLETED
    assert opened(chained.result)["answer"] == PLANTED
    assert work.uses(older).messages == 0


def test_a_callback_of_a_batch_is_encrypted_until_it_runs(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    batches, note = sealed.services.batches, Submission("sealed_note", {"text": PLANTED}, SubmitOptions())
    new = NewBatch(id="b", tasks=[note], callbacks={BatchEvent.SUCCESS: note})
    batches.create(new)
    sealed.check_nothing_is_readable()
    older = rotate(sealed, monkeypatch)
    reencryption(sealed).run()
    assert reencryption(sealed).uses(older).rows == 0
    assert not batches.create(new).created, "its digest was made with the older key"
    sealed.run()
    sealed.platform.tasks.outbox.relay()
    sealed.run()

    assert opened(sealed.platform.row(callback_id("b", BatchEvent.SUCCESS)).result)["answer"] == PLANTED
    sealed.check_nothing_is_readable()


def test_a_worker_without_the_key_hands_the_message_on(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    id = sealed.submit()
    monkeypatch.setattr("laneway.platform.sealing._paths", {})
    sealed.run()
    assert sealed.platform.row(id).state == TaskState.PENDING
    places = sealed.platform.places(QUEUE)
    assert places.keys() == {id}, "the message is kept"
    monkeypatch.undo()
    wait_until(lambda: sealed.run() or sealed.platform.row(id).state == TaskState.COMPLETED, seconds=20)


def test_an_encrypted_task_without_a_key_ring_is_refused_at_the_start_and_at_a_submission(
    platform: Platform,
) -> None:
    declared = declared_tasks()["sealed_note"]
    registry.add(declared.spec, declared, source=SOURCE.format(declared.name))
    try:
        with pytest.raises(KeysMissing, match=re.escape("The payloads of 'sealed_note' must be encrypted")):
            load_tasks(platform.app)
        with pytest.raises(KeysMissing, match="set KEY_RING_FILE"):
            platform.tasks.submit("sealed_note", {"text": PLANTED})
        assert not platform.rows()
    finally:
        registry.remove("sealed_note")


def test_the_events_and_the_descriptions_of_arguments_show_nothing(sealed: Sealed) -> None:
    made: Any = sealed.platform.app.amqp.as_task_v2("x", "sealed_note", (PLANTED,), {}, create_sent_event=True)
    assert PLANTED not in json.dumps([made.headers, made.body, made.sent_event], default=str)
    assert made.headers["kwargsrepr"] == "(encrypted)"
