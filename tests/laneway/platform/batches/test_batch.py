"""`laneway.batch`: batches as an application makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session

import laneway
from app.services.container import Services
from laneway.platform.current import platform_for_this_context
from laneway.platform.errors import InvalidPayload
from laneway.platform.execution.context import Context
from laneway.platform.registry import registry
from laneway.platform.submission.invalid_options import InvalidOptions
from laneway.schemas.choices import BatchState
from laneway.schemas.payload import Payload
from tests.fixtures.platform import Platform

QUEUE = "maintenance"


@laneway.task(queue=QUEUE, name="batch_part")
def part(number: int) -> dict[str, int]:
    """A task with plain parameters."""
    return {"number": number}


class Report(Payload):
    """The payload of a callback."""

    batch_id: str
    month: int = 1


@laneway.task(queue=QUEUE, name="batch_report")
def report(payload: Report) -> None:
    """A callback."""


@pytest.fixture(autouse=True)
def on_platform(services: Services) -> Iterator[None]:
    """Calls of the test go to its platform."""
    for each in (part, report):
        registry.add(each.spec, each, source=f"{__name__}.{each.work.__qualname__}")
    with platform_for_this_context(services):
        yield
    for each in (part, report):
        registry.remove(each.name)


def test_a_batch_is_made_with_its_tasks_at_the_end_of_the_block(services: Services, platform: Platform) -> None:
    with laneway.batch("Parts", on_success=report, on_death=(report, {"month": 2})) as draft:
        draft.add(part, 1)
        draft.add(part.options(priority="high", id="two"), number=2)
        draft.add_many(part, [{"number": 3}, (4,)], ids=["three", "four"])
        assert platform.rows() == []

    assert [handle.task_id for handle in draft.handles][1:] == ["two", "three", "four"]
    assert {run.batch_id for run in platform.rows()} == {draft.id}
    view = laneway.Batch(draft.id).view()
    assert (view.total, view.state, view.description) == (4, BatchState.RUNNING, "Parts")
    for _ in range(4):
        platform.work(QUEUE)
    services.recorder.catch_up()
    services.tasks.outbox.relay()
    assert platform.row(f"batch:success:{draft.id}").payload == {"batch_id": draft.id, "month": 1}


def test_an_error_in_the_block_or_in_a_task_stores_nothing(platform: Platform) -> None:
    with pytest.raises(ZeroDivisionError), laneway.batch() as draft:
        draft.add(part, 1)
        raise ZeroDivisionError
    with pytest.raises(InvalidPayload), laneway.batch() as draft:
        draft.add(part, number="no number")
    with pytest.raises(InvalidPayload), laneway.batch(on_success=(report, {"no": 1})):
        pass

    assert platform.rows() == []


def test_a_coroutine_makes_one(platform: Platform) -> None:
    async def make() -> str:
        async with laneway.batch() as draft:
            draft.add(part, 1)
        return draft.id

    id = asyncio.run(make())
    assert [run.batch_id for run in platform.rows()] == [id]


def test_the_running_task_adds_to_its_own_batch(services: Services, platform: Platform) -> None:
    with laneway.batch() as draft:
        draft.add(part, 1)
    alone = part.submit(2).task_id
    attempts = [platform.start(QUEUE) for _ in range(2)]
    contexts = {attempt.task_id: Context(attempt, services) for attempt in attempts}
    assert contexts.pop(alone).batch is None
    (context,) = contexts.values()
    for _ in range(2):  # as a repeated attempt
        assert context.batch is not None
        context.batch.add_many(part, [(3,)], ids=[f"{context.id}:3"])

    assert laneway.Batch(draft.id).view().total == 2


def test_the_option_batch_is_that_of_a_submission(platform: Platform) -> None:
    batch = laneway.batch(keep_open=True).make()
    part.options(batch=batch.id).submit(1)
    part.options(batch=batch.id).submit_many([(2,), (3,)])
    assert batch.view().total == 3
    assert batch.close().state is BatchState.RUNNING
    assert batch.cancel().cancelled == 3


def test_a_task_of_a_batch_belongs_to_a_transaction_of_the_caller(platform: Platform) -> None:
    batch = laneway.batch(keep_open=True).make()
    with Session(platform.database.engine) as session:
        part.options(batch=batch.id, session=session).submit(1)
        session.rollback()
        assert batch.view().total == 0
        part.options(batch=batch.id, session=session).submit(2)
        session.commit()
    assert batch.view().total == 1
    with pytest.raises(InvalidOptions, match="session"):
        batch.add(part.options(session=session), 3)


@pytest.mark.parametrize("given", [{"description": "x" * 201}, {"id": ""}, {"id": "x" * 129}, {"id": "\x00"}])
def test_bad_fields_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(InvalidOptions):
        laneway.batch(**given)  # pyright: ignore[reportArgumentType]
