"""Celery's features on the engine: acks, lost children, revocation, expiry, stamps, shutdowns."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from celery import signature
from celery.canvas import StampingVisitor
from celery.exceptions import TaskRevokedError, WorkerLostError

from laneway.engine import Engine, MessageState
from tests.fixtures.valkey import RedisUrls
from tests.laneway.worker.workers import Start, app, broker, start, wait_for

__all__ = ["app", "broker", "start"]
APP = "tests.laneway.worker.feature_app"


class Stamps(StampingVisitor):
    """Marks what belongs to one order."""

    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        del sig, headers
        return {"order": "order-1", "stamped_headers": ["order"]}


def leased(broker: Engine) -> int:
    return broker.stats(["celery"])[0].leased


def test_error_callbacks_replacement_and_eta_work(app: Any, start: Start, tmp_path: Path) -> None:
    start("prefork", "-c", "1").wait_until_ready()
    failed = app.fail.apply_async(link_error=app.on_error.s(str(tmp_path)))
    with pytest.raises(ValueError, match="meant to"):
        failed.get(timeout=20)
    wait_for(lambda: (tmp_path / "errback").read_text() == f"{failed.id} ValueError")
    assert app.replaced.delay(5).get(timeout=20) == 15
    assert app.seen.apply_async(countdown=0.2).get(timeout=20)["eta"], "a task sees when it was due"
    with pytest.raises(TaskRevokedError):
        app.add.apply_async((1, 1), expires=-1).get(timeout=20)


def test_stamps_reach_the_task_and_revoke_tasks_that_carry_them(
    app: Any, start: Start, broker: Engine, tmp_path: Path
) -> None:
    start("prefork", "-c", "1").wait_until_ready()
    stamped: Any = app.seen.s()
    stamped.stamp(visitor=Stamps())
    seen = stamped.apply_async().get(timeout=20)
    assert seen["stamps"] == {"order": "order-1"}
    app.note.delay(str(tmp_path), "n0", 3)
    wait_for((tmp_path / "n0").exists)
    waiting: Any = signature(app.note.s(str(tmp_path), "n1"))
    waiting.stamp(visitor=Stamps())
    result = waiting.apply_async()
    wait_for(lambda: leased(broker) == 2)
    app.app.control.revoke_by_stamped_headers({"order": ["order-1"]}, reply=True, timeout=30, destination=["w0@test"])
    with pytest.raises(TaskRevokedError):
        result.get(timeout=20)
    assert not (tmp_path / "n1").exists()


def test_a_lost_child_fails_or_repeats_its_task_as_configured(
    app: Any, start: Start, broker: Engine, tmp_path: Path
) -> None:
    start("prefork", "-c", "1").wait_until_ready()
    with pytest.raises(WorkerLostError):
        app.die.delay(str(tmp_path)).get(timeout=30)
    assert (tmp_path / "died").read_text() == "x"
    (tmp_path / "died").unlink()
    app.die_and_repeat.delay(str(tmp_path))
    wait_for(lambda: (tmp_path / "died").read_text() == "xx")
    wait_for(lambda: leased(broker) == 0 and broker.stats(["celery"])[0].waiting == 0)


def test_an_early_ack_is_sent_before_the_task_ends_and_a_late_one_after(
    app: Any, start: Start, broker: Engine, tmp_path: Path
) -> None:
    start("prefork", "-c", "1").wait_until_ready()
    app.note_early.delay(str(tmp_path), "n0", 3)
    wait_for((tmp_path / "n0").exists)
    wait_for(lambda: leased(broker) == 0, seconds=2)
    assert "end" not in (tmp_path / "n0").read_text()
    app.note.delay(str(tmp_path), "n1", 1)
    wait_for((tmp_path / "n1").exists)
    assert leased(broker) == 1
    wait_for(lambda: leased(broker) == 0)
    assert "end" in (tmp_path / "n1").read_text()


def test_a_failure_without_an_ack_becomes_a_dead_letter(app: Any, start: Start, broker: Engine, tmp_path: Path) -> None:
    start("prefork", "-c", "1").wait_until_ready()
    app.fail_unacked.delay(str(tmp_path))
    wait_for(lambda: broker.stats(["celery"])[0].dead == 1)
    assert (tmp_path / "failed").read_text() == "x"


def test_a_cold_shutdown_gives_everything_back_at_once_uncounted(
    app: Any, start: Start, broker: Engine, tmp_path: Path
) -> None:
    worker = start("prefork", "-c", "1").wait_until_ready()
    for number in range(3):
        app.note.delay(str(tmp_path), f"n{number}", 60)
    wait_for((tmp_path / "n0").exists)
    wait_for(lambda: leased(broker) == 3)
    worker.signal(signal.SIGQUIT)
    worker.process.wait(60)
    wait_for(lambda: leased(broker) == 0, seconds=1)
    assert sorted(peeked.deliveries for peeked in broker.peek("celery", MessageState.READY)) == [0, 0, 0]


def test_a_cold_shutdown_cancels_a_task_whose_start_the_worker_has_not_read(
    app: Any, start: Start, broker: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("START_READ_SECONDS", "60")
    worker = start("prefork", "-c", "1").wait_until_ready()
    app.note.delay(str(tmp_path), "n0", 60)
    wait_for((tmp_path / "n0").exists)
    worker.signal(signal.SIGQUIT)
    worker.process.wait(20)
    wait_for(lambda: broker.stats(["celery"])[0].ready == 1, seconds=1)


def test_a_soft_shutdown_gives_unfinished_tasks_back(
    app: Any, start: Start, broker: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = {"worker_soft_shutdown_timeout": 2, "worker_enable_soft_shutdown_on_idle": True}
    monkeypatch.setenv("CONF", json.dumps(conf))
    monkeypatch.setenv("REMAP_SIGTERM", "SIGQUIT")
    worker = start("prefork", "-c", "1").wait_until_ready()
    for number in range(3):
        app.note.delay(str(tmp_path), f"n{number}", 60)
    wait_for((tmp_path / "n0").exists)
    wait_for(lambda: leased(broker) == 3)
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    worker.process.wait(20)
    assert time.monotonic() - began > 2
    wait_for(lambda: leased(broker) == 0, seconds=1)
    assert sorted(peeked.deliveries for peeked in broker.peek("celery", MessageState.READY)) == [0, 0, 0]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_cancelled_task_that_waits_in_a_worker_never_starts(
    app: Any, start: Start, broker: Engine, tmp_path: Path, pool: str
) -> None:
    start(pool, "-c", "1").wait_until_ready()
    running, waiting = (app.note.delay(str(tmp_path), f"n{number}", 4) for number in range(2))
    wait_for((tmp_path / "n0").exists)
    wait_for(lambda: leased(broker) == 2)
    assert [broker.cancel("celery", task.id).marked for task in (running, waiting)] == [1, 1]
    assert running.get(timeout=20) == "n0", "without cancel_signal a running task goes on"
    with pytest.raises(TaskRevokedError):
        waiting.get(timeout=20)
    wait_for(lambda: leased(broker) == 0)
    assert not (tmp_path / "n1").exists()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_task_id_that_was_cancelled_in_a_worker_can_be_submitted_again(
    app: Any, start: Start, broker: Engine, tmp_path: Path, pool: str
) -> None:
    start(pool, "-c", "1").wait_until_ready()
    running, waiting = (app.note.delay(str(tmp_path), f"n{number}", 4) for number in range(2))
    wait_for((tmp_path / "n0").exists)
    wait_for(lambda: leased(broker) == 2)
    assert [broker.cancel("celery", task.id).marked for task in (running, waiting)] == [1, 1]
    wait_for(lambda: broker.stats(["celery"])[0].leased == 0)
    assert not (tmp_path / "n1").exists()
    for task, name in ((running, "again0"), (waiting, "again1")):
        app.note.apply_async((str(tmp_path), name), task_id=task.id)
        wait_for(lambda name=name: "end" in (tmp_path / name).read_text())


def test_a_cancel_signal_ends_a_running_task_that_was_cancelled(
    app: Any, start: Start, broker: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTIONS", json.dumps({"cancel_signal": "TERM"}))
    start("prefork", "-c", "1").wait_until_ready()
    running = app.note.delay(str(tmp_path), "n0", 60)
    wait_for((tmp_path / "n0").exists)
    broker.cancel("celery", running.id)
    with pytest.raises(TaskRevokedError):
        running.get(timeout=10)
    wait_for(lambda: leased(broker) == 0)
    assert app.add.delay(1, 1).get(timeout=20) == 2
    assert "end" not in (tmp_path / "n0").read_text()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_after_a_cut_a_worker_holds_no_more_than_its_prefetch(
    app: Any, start: Start, broker: Engine, tmp_path: Path, pool: str
) -> None:
    start(pool, "-c", "2", "--prefetch-multiplier", "2").wait_until_ready()
    for number in range(3):  # the worker has room for one more, so it listens and notices the cut
        app.note.delay(str(tmp_path), f"n{number}", 4)
    wait_for(lambda: len(list(tmp_path.glob("n?"))) == 2 and leased(broker) == 3)
    broker.runner.call("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "yes")
    for number in range(3, 9):
        app.note.apply_async((str(tmp_path), f"n{number}", 0.2), retry=True)
    most = 0

    def all_ran() -> bool:
        nonlocal most
        most = max(most, leased(broker))
        return sum("end" in path.read_text() for path in tmp_path.glob("n?")) == 9

    wait_for(all_ran)
    assert most == 4
    assert all(path.read_text().count("start") == 1 for path in tmp_path.glob("n?"))


def test_a_server_that_is_killed_and_restarted_loses_nothing_and_its_worker_goes_on(
    app: Any, start: Start, broker: Engine, tmp_path: Path, redis_urls: RedisUrls
) -> None:
    start("prefork", "-c", "2").wait_until_ready()
    for number in range(8):
        app.note.delay(str(tmp_path), f"n{number}", 0.5)
    app.add.apply_async((1, 1), countdown=600)
    wait_for((tmp_path / "n0").exists)
    broker.runner.call("WAITAOF", 1, 0, 5000)
    redis_urls.valkey.kill()
    redis_urls.valkey.start()
    wait_for(lambda: sum("end" in path.read_text() for path in tmp_path.glob("n?")) == 8, seconds=60)
    wait_for(lambda: leased(broker) == 0)
    stats = broker.stats(["celery"])[0]
    assert (stats.ready, stats.scheduled, stats.dead) == (0, 1, 0)
