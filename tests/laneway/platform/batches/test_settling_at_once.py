"""Ends at the same moment, relays at the same moment, and relays that die."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import select, update

from laneway.platform.batches import callbacks, settling
from laneway.platform.batches.batches import Batches
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import batches as queries
from laneway.platform.object_store import StorageUnavailable
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.schemas.task import TaskState
from tests.fixtures.batches import QUEUE, TASK, checks, fired, new, settle, work
from tests.fixtures.platform import Platform


def test_a_relay_that_dies_before_its_commit_has_done_nothing(
    platform: Platform, batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches.create(new(1))
    work(platform)
    platform.recorder.catch_up()
    with monkeypatch.context() as patched:
        patched.setattr(settling, "_has_succeeded", lambda *_: 1 / 0)  # after `complete` was submitted
        with pytest.raises(ZeroDivisionError):
            platform.tasks.outbox.batches.settle()
    assert (fired(platform), batches.view("b").finished_at) == ([], None)
    settle(platform)

    assert fired(platform) == ["complete", "success"]


def test_a_payload_that_cannot_be_stored_now_is_tried_again(
    platform: Platform, batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StorageUnavailable("away")

    batches.create(new(0, id="a"))
    batches.create(new(0))
    with monkeypatch.context() as patched:
        patched.setattr(callbacks, "store_large", refuse)
        settle(platform)
    assert (fired(platform, "a"), fired(platform)) == ([], [])
    settle(platform)

    assert fired(platform, "a") == fired(platform) == ["complete", "success"]


def end_rows(platform: Platform, ids: Sequence[str], barrier: Barrier) -> None:
    """End tasks in one transaction that is open while the other one is, too, as two recorders do."""
    with platform.database.transaction() as session:
        session.execute(update(TaskRun).where(TaskRun.id.in_(ids)).values(state=TaskState.COMPLETED))
        queries.add_checks(session, session.scalars(select(TaskRun).where(TaskRun.id.in_(ids))).all(), ended=True)
        session.flush()
        barrier.wait(10)


@pytest.mark.parametrize("platform_database", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_two_last_tasks_that_end_at_once(platform: Platform, batches: Batches) -> None:
    """Neither of the two transactions sees the end of the other one, and a relay looks meanwhile."""
    batches.create(new(2))
    settle(platform)
    barrier = Barrier(3)
    with ThreadPoolExecutor(2) as pool:
        ends = [pool.submit(end_rows, platform, [f"b-{n}"], barrier) for n in range(2)]
        platform.tasks.outbox.batches.settle()
        assert fired(platform) == []
        barrier.wait(10)
        for end in ends:
            end.result()
    platform.tasks.outbox.batches.settle()

    assert fired(platform) == ["complete", "success"]


@pytest.mark.parametrize("platform_database", ["postgresql"], indirect=True)
def test_many_relays_fire_once(platform: Platform, batches: Batches) -> None:
    for n in range(20):
        batches.create(new(0, id=f"b{n}"))
    barrier = Barrier(4)

    def relay() -> None:
        barrier.wait(10)
        platform.tasks.outbox.batches.settle()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(relay) for _ in range(4)]:
            done.result()
    platform.tasks.outbox.batches.settle()

    assert all(fired(platform, f"b{n}") == ["complete", "success"] for n in range(20))
    assert len(platform.rows()) == 40


@pytest.mark.parametrize("platform_database", ["postgresql"], indirect=True)
def test_a_batch_does_not_end_while_somebody_adds_a_task(platform: Platform, batches: Batches) -> None:
    batches.create(new(1))
    platform.start(QUEUE)
    with platform.tasks.transaction() as unit:
        unit.submit(TASK, {}, options=SubmitOptions(id="late", batch="b"))
        end_rows(platform, ["b-0"], Barrier(1))
        platform.tasks.outbox.batches.settle()
        assert checks(platform) > 0, "it is left to a later run, and nobody waits"
    platform.tasks.outbox.batches.settle()

    view = batches.view("b")
    assert (fired(platform), view.waiting, view.finished_at) == ([], 1, None)
