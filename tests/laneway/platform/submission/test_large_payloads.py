"""Large payloads: what is sent together, and what the relay reads at once, is bounded by bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from laneway.engine import Engine, Message, PutResult
from laneway.engine.engine import CHUNK_BYTES
from laneway.platform import clock
from laneway.platform.db.queries import outbox as queries
from laneway.platform.submission import outbox as outbox_module
from laneway.schemas.task import TaskState
from tests.fixtures.platform import Platform

BYTES = 300_000


def payload(number: int) -> dict[str, Any]:
    return {"url": "https://example.com/hook", "event": f"e{number}", "data": {"text": "x" * BYTES}}


def submit_parked(platform: Platform, number: int) -> list[str]:
    """Submit tasks whose messages the broker does not get: the relay sends them."""
    with platform.database.transaction() as session:
        transaction = outbox_module.SubmissionTransaction(session, platform.settings.tasks, bounded=False)
        for index in range(number):
            transaction.submit("send_webhook_response_task", payload(index))
        for run in transaction.runs:
            queries.release(session, [run])
    return [run.id for run in transaction.runs]


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each bulk put."""
    seen: list[int] = []
    put_many = Engine.put_many

    def measured(engine: Engine, queue: str, messages: Sequence[Message], **options: Any) -> list[PutResult]:
        seen.append(sum(len(message.body) for message in messages))
        return put_many(engine, queue, messages, **options)

    monkeypatch.setattr(Engine, "put_many", measured)
    return seen


def test_a_transaction_sends_large_tasks_in_several_calls(platform: Platform, sizes: list[int]) -> None:
    with platform.tasks.transaction() as transaction:
        for number in range(7):
            transaction.submit("send_webhook_response_task", payload(number))

    assert {handle.state for handle in transaction.handles} == {TaskState.PENDING}
    assert platform.sent("webhooks") == [handle.task_id for handle in transaction.handles]
    assert len(sizes) == 3
    assert max(sizes) <= CHUNK_BYTES


def test_the_relay_claims_rows_until_their_payloads_have_so_many_bytes(platform: Platform) -> None:
    ids = submit_parked(platform, 25)
    now = clock.now()
    with platform.database.transaction() as session:
        claimed = queries.claim(
            session, now=now, abandoned_before=now, limit=200, most_bytes=2 * BYTES, queues={"webhooks"}
        )
        assert [run.id for run in claimed] == ids[:2]
        assert all(run.published_at == now for run in claimed)
    assert [run.published_at is None for run in platform.rows()] == [False] * 2 + [True] * 23


def test_the_relay_claims_one_row_that_is_larger_than_its_bytes(platform: Platform) -> None:
    ids = submit_parked(platform, 2)
    now = clock.now()
    with platform.database.transaction() as session:
        claimed = queries.claim(session, now=now, abandoned_before=now, limit=200, most_bytes=10, queues={"webhooks"})
        assert [run.id for run in claimed] == ids[:1]


def test_the_relay_sends_all_large_tasks_in_order(
    platform: Platform, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "PAGE_BYTES", 3 * BYTES)
    ids = submit_parked(platform, 8)
    assert platform.tasks.outbox.relay() == 8
    assert platform.sent("webhooks") == ids
    assert max(sizes) <= CHUNK_BYTES
