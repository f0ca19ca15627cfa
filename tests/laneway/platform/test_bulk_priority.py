"""Waiting tasks get another priority, at the broker and in their rows."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import pytest

from laneway.engine import MessageState
from laneway.platform import bulk_priority
from laneway.platform.audit_log.audit_log import AuditLog
from laneway.platform.db.queries.audit_log import AuditLogFilter
from laneway.platform.queues import Priority
from tests.fixtures.platform import Platform

LOW, CRITICAL = int(Priority.LOW), int(Priority.CRITICAL)


@contextmanager
def broker_away(platform: Platform) -> Generator[None]:
    """In this block nobody reaches the broker."""
    platform.valkey.stop()
    try:
        yield
    finally:
        platform.valkey.start()


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_priority, "PAGE", 2)


def change(platform: Platform, priority: int, *ids: str) -> tuple[int, dict[str, str]]:
    runs = [platform.row(id) for id in ids]
    return platform.tasks.reprioritise_many(runs, dict.fromkeys(ids, priority))


def test_messages_are_delivered_by_their_new_priority_and_keep_their_order(platform: Platform) -> None:
    first, second, third, fourth = (platform.chore() for _ in range(4))
    assert change(platform, CRITICAL, third, fourth) == (2, {})
    assert change(platform, LOW, first) == (1, {})

    assert platform.sent("maintenance") == [third, fourth, second, first]
    assert [platform.row(id).priority for id in (first, third)] == [LOW, CRITICAL]
    assert [platform.work("maintenance") for _ in range(4)] == [third, fourth, second, first]
    entries = AuditLog(platform.database).page(AuditLogFilter(action="task.reprioritise")).entries
    assert {entry.object_id: (entry.before or {})["priority"] for entry in entries} == dict.fromkeys(
        (first, third, fourth), int(Priority.NORMAL)
    )


def test_a_held_and_a_scheduled_task_keep_their_place(platform: Platform) -> None:
    head, held, scheduled = platform.message(), platform.message(), platform.message("c-2", delay=60)
    assert change(platform, CRITICAL, held, scheduled) == (2, {})

    assert platform.places() == {
        head: MessageState.READY,
        held: MessageState.HELD,
        scheduled: MessageState.SCHEDULED,
    }
    other = platform.message("c-3")
    assert [platform.work(), platform.work(), platform.work()] == [head, held, other]


def test_a_task_that_does_not_wait_is_refused(platform: Platform) -> None:
    running, over = platform.chore(), platform.webhook().task_id
    platform.start("maintenance")
    platform.end(platform.start("webhooks"))
    leased = platform.message()
    platform.fetched()
    done, refused = change(platform, LOW, running, over, leased)

    assert (done, set(refused)) == (0, {running, over, leased})
    assert "starts at this moment" in refused[leased]
    assert platform.row(leased).priority == int(Priority.NORMAL)


def test_a_task_in_the_outbox_is_sent_with_its_new_priority(platform: Platform) -> None:
    with broker_away(platform):
        first, second = platform.chore(), platform.chore()
        assert change(platform, CRITICAL, second) == (1, {})
    platform.tasks.outbox.relay()

    assert platform.sent("maintenance") == [second, first]


def test_while_the_broker_is_away_nothing_that_it_has_is_changed(platform: Platform) -> None:
    id = platform.chore()
    with broker_away(platform):
        done, refused = change(platform, LOW, id)

    assert (done, list(refused), platform.row(id).priority) == (0, [id], int(Priority.NORMAL))
