"""A replay is a new task with the payload of an old one, on the newest code and model."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
from celery.exceptions import DuplicateTaskNameWarning

from laneway import task
from laneway.platform.access.caller import Caller, acting_as
from laneway.platform.db.models import TaskRun
from laneway.platform.execution.outcomes import Completed
from laneway.platform.operations.bulk_undo import BulkUndo
from laneway.platform.queues import Priority
from laneway.platform.registry import registry
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.schemas.payload import Payload
from laneway.schemas.task import TaskState
from tests.fixtures.platform import Platform

NAME, QUEUE = "replayed_report", "maintenance"


class Old(Payload):
    """The payload as it was."""

    title: str = "none"


class New(Payload):
    """A field more."""

    title: str
    pages: int = 3


class Other(Payload):
    """A payload that the old one does not fit."""

    heading: str


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    registry.remove(NAME)


def declare(payload: type[Payload]) -> None:
    """Deploy the task with this payload."""
    registry.remove(NAME)

    def work(payload: Payload) -> None:
        del payload

    work.__annotations__["payload"] = payload
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DuplicateTaskNameWarning)  # the newer one is meant to take its place
        task(queue=QUEUE, name=NAME)(work)


def ended(platform: Platform, title: str | None = "May", **options: object) -> TaskRun:
    payload = {} if title is None else {"title": title}
    id = platform.tasks.submit(NAME, payload, options=SubmitOptions(**options)).task_id  # pyright: ignore[reportArgumentType]
    platform.end(platform.start(QUEUE), Completed({"old": True}))
    return platform.row(id)


def replay(platform: Platform, *runs: TaskRun, of: str | None = None) -> tuple[dict[str, str], dict[str, str]]:
    begin = BulkUndo(platform.database, platform.recorder, platform.tasks).begin
    return platform.tasks.replay_many(runs, of=of or begin("replay", known=None).id)


def test_the_copy_is_a_new_task_and_the_old_one_stays(platform: Platform) -> None:
    declare(Old)
    run = ended(platform, tags=("may",), priority=Priority.HIGH, key="month:5", max_retries=2)
    declare(New)
    copies, refused = replay(platform, run)

    copy = platform.row(copies[run.id])
    assert (refused, copy.id != run.id) == ({}, True)
    assert (copy.payload, copy.tags, copy.priority) == ({"title": "May", "pages": 3}, ["may"], Priority.HIGH)
    assert (copy.key, copy.max_retries, copy.state) == ("month:5", 2, TaskState.PENDING)
    assert platform.work(QUEUE) == copy.id
    old = platform.row(run.id)
    assert (old.state, old.result) == (TaskState.COMPLETED, run.result)


def test_a_payload_that_no_longer_fits_is_named_and_the_others_are_replayed(platform: Platform) -> None:
    declare(Old)
    good, bad = ended(platform), ended(platform)
    declare(Other)
    good.payload = {"heading": "May"}
    copies, refused = replay(platform, bad, good)

    assert (list(copies), list(refused)) == ([good.id], [bad.id])
    assert "heading: Field required" in refused[bad.id]
    assert platform.row(bad.id).payload == {"title": "May"}


def test_a_repeated_call_of_an_action_makes_no_second_copy(platform: Platform) -> None:
    declare(Old)
    run = ended(platform)
    of = BulkUndo(platform.database, platform.recorder, platform.tasks).begin("replay", known=None).id
    first, second = replay(platform, run, of=of), replay(platform, run, of=of)

    assert first == second
    assert platform.sent(QUEUE) == [first[0][run.id]]


def test_an_erased_payload_is_not_replayed_although_the_model_has_only_defaults(platform: Platform) -> None:
    declare(Old)
    erased, empty = ended(platform), ended(platform, None)
    erased.payload = {}
    copies, refused = replay(platform, erased, empty)

    assert (list(copies), list(refused)) == ([empty.id], [erased.id])
    assert "its payload is no longer kept" in refused[erased.id]


def test_internal_tasks_and_those_with_a_uniqueness_key_are_not_replayed(platform: Platform) -> None:
    declare(Old)
    unique = ended(platform, unique="one")
    internal = platform.tasks.submit("process_generic_webhook_task", {"delivery_id": "1"}).task_id
    platform.end(platform.start("webhooks"))
    copies, refused = replay(platform, unique, platform.row(internal))

    assert (copies, set(refused)) == ({}, {unique.id, internal})
    assert all("retry it instead" in reason for reason in refused.values())


def test_the_copy_of_a_tenants_task_belongs_to_the_tenant(platform: Platform) -> None:
    declare(Old)
    run = ended(platform, id="tenant:acme:1")
    with acting_as(Caller(kind="token", name="acme", tenant="acme")):
        copies, _ = replay(platform, run)

    assert copies[run.id].startswith("tenant:acme:")
