"""Real Celery workers on the transport."""

from __future__ import annotations

import itertools
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import NotRegistered

from laneway.engine import Engine, Message, MessageState
from laneway.transport.codec import message_options
from tests.fixtures.valkey import RedisUrls
from tests.laneway.worker.workers import Start, Worker, app, broker, start, wait_for

EVENTLET = pytest.mark.skipif(find_spec("eventlet") is None, reason="eventlet is not installed")

__all__ = ["Start", "Worker", "app", "broker", "start", "wait_for"]


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent", pytest.param("eventlet", marks=EVENTLET)])
def test_canvas_countdown_retry_and_control_work(app: Any, start: Start, broker: Engine, pool: str) -> None:
    worker = start(pool, "-c", "2").wait_until_ready()
    from celery import chain, chord

    assert app.add.delay(1, 2).get(timeout=20) == 3
    chained: Any = chain(app.add.s(1, 2), app.add.s(4))()
    assert chained.get(timeout=20) == 7
    assert chord([app.add.s(n, n) for n in range(4)], app.total.s())().get(timeout=20) == 12
    assert app.flaky.delay().get(timeout=20) == 2
    began = time.monotonic()
    assert app.add.apply_async((1, 1), countdown=0.6).get(timeout=20) == 2
    assert 0.55 < time.monotonic() - began < 2
    assert app.app.control.ping(timeout=30, limit=1) == [{"w0@test": {"ok": "pong"}}]
    assert "tests.laneway.worker.celery_app.add" in app.app.control.inspect(timeout=30, limit=1).registered()["w0@test"]
    assert worker.stop() == 0
    stats = broker.stats(["celery"])[0]
    assert (stats.waiting, stats.leased, stats.dead) == (0, 0, 0)


def test_a_countdown_waits_in_the_broker_and_not_in_the_worker(app: Any, start: Start, broker: Engine) -> None:
    start("solo").wait_until_ready()
    app.add.apply_async((1, 1), countdown=60)
    wait_for(lambda: broker.stats(["celery"])[0].scheduled == 1)
    stats = app.app.control.inspect(timeout=30, limit=1).stats()["w0@test"]
    assert (stats["total"], broker.stats(["celery"])[0].leased) == ({}, 0)


def test_priorities_decide_what_runs_first(app: Any, start: Start, tmp_path: Path) -> None:
    for priority in (0, 9, 4):
        app.note.apply_async((str(tmp_path), f"p{priority}"), priority=priority)
    start("solo", "-c", "1").wait_until_ready()
    wait_for(lambda: len(list(tmp_path.glob("p?"))) == 3 and all("end" in p.read_text() for p in tmp_path.glob("p?")))
    began = {path.name: float(path.read_text().split()[1]) for path in tmp_path.glob("p?")}
    assert sorted(began, key=began.__getitem__) == ["p9", "p4", "p0"]


def test_the_task_of_a_killed_worker_runs_again_and_a_long_one_runs_once(
    app: Any, start: Start, tmp_path: Path
) -> None:
    first = start("prefork", "-c", "1").wait_until_ready()
    app.note.delay(str(tmp_path), "lost", 60)
    wait_for((tmp_path / "lost").exists)
    first.kill()
    (tmp_path / "lost").write_text("")
    start("threads", "-c", "2").wait_until_ready()
    wait_for(lambda: "start" in (tmp_path / "lost").read_text())
    app.note.delay(str(tmp_path), "long", 6).get(timeout=30)
    assert (tmp_path / "long").read_text().count("start") == 1, "three leases long, renewed all the while"


def test_a_warm_shutdown_finishes_running_tasks_and_gives_the_others_back_uncounted(
    app: Any, start: Start, broker: Engine, tmp_path: Path
) -> None:
    worker = start("prefork", "-c", "1").wait_until_ready()
    for number in range(6):
        app.note.delay(str(tmp_path), f"n{number}", 0.7)
    wait_for((tmp_path / "n0").exists)
    assert worker.stop() == 0

    finished = sum("end" in file.read_text() for file in tmp_path.glob("n?"))
    started = len(list(tmp_path.glob("n?")))
    left = broker.peek("celery", MessageState.READY)
    assert finished == started
    assert len(left) == 6 - finished
    assert {peeked.deliveries for peeked in left} == {0}
    assert broker.stats(["celery"])[0].leased == 0


def test_tasks_of_one_ordering_key_run_one_after_the_other(app: Any, start: Start, tmp_path: Path) -> None:
    start("threads", "-c", "6").wait_until_ready()
    headers = message_options(key="customer-1")
    results = [app.note.apply_async((str(tmp_path), f"k{n}", 0.1), headers=headers) for n in range(5)]
    for result in results:
        result.get(timeout=20)
    spans = [[float(line.split()[1]) for line in (tmp_path / f"k{n}").read_text().splitlines()] for n in range(5)]
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans)), spans


def test_rejected_and_unreadable_messages_become_dead_letters(app: Any, start: Start, broker: Engine) -> None:
    start("solo").wait_until_ready()
    app.refuse.delay()
    unknown = app.app.send_task("nobody.knows.this")
    broker.put("celery", Message(task_id="broken", name="x", body=b"{not json\0[]"))
    wait_for(lambda: broker.stats(["celery"])[0].dead == 3)
    found = broker.peek("celery", MessageState.DEAD)
    reasons = {peeked.dead_info.reason: peeked.dead_info.error for peeked in found if peeked.dead_info}
    assert sorted(reasons) == ["malformed", "rejected", "unregistered"]
    assert "No worker of the queue 'celery' knows the task 'nobody.knows.this'" in reasons["unregistered"]
    assert "then retry it" in reasons["unregistered"]
    assert reasons["rejected"] == "no"
    with pytest.raises(NotRegistered):
        unknown.get(timeout=20)
    assert app.add.delay(2, 2).get(timeout=20) == 4


def test_a_worker_starts_and_reconnects_while_the_memory_of_the_broker_is_full(
    app: Any, start: Start, broker: Engine, redis_urls: RedisUrls
) -> None:
    broker.runner.call("CONFIG", "SET", "maxmemory", "1")
    try:
        worker = start("solo").wait_until_ready()
        broker.runner.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        wait_for(lambda: worker.log.read_text().count("Connected to") == 2)
    finally:
        broker.runner.call("CONFIG", "SET", "maxmemory", "0")
    assert app.add.delay(1, 2).get(timeout=20) == 3


def test_workers_go_on_after_a_restart_of_the_broker(app: Any, start: Start, redis_urls: RedisUrls) -> None:
    start("prefork", "-c", "1").wait_until_ready()
    assert app.add.delay(1, 1).get(timeout=20) == 2
    redis_urls.valkey.restart()
    wait_for(lambda: app.add.apply_async((2, 3), retry=True).get(timeout=5) == 5, seconds=40)


@pytest.mark.parametrize("pool", ["gevent", pytest.param("eventlet", marks=EVENTLET)])
def test_a_pool_of_greenlets_runs_tasks_together_and_keeps_their_leases_and_goes_on_after_a_restart_of_the_broker(
    app: Any, start: Start, broker: Engine, redis_urls: RedisUrls, tmp_path: Path, pool: str
) -> None:
    worker = start(pool, "-c", "30").wait_until_ready()
    results = [app.note.delay(str(tmp_path), f"long{n}", 6) for n in range(20)]
    assert [result.get(timeout=60) for result in results] == [f"long{n}" for n in range(20)]
    spans = [[float(line.split()[1]) for line in (tmp_path / f"long{n}").read_text().splitlines()] for n in range(20)]
    assert all(len(span) == 2 for span in spans), "each ran once, although it took three leases"
    assert max(began for began, _ in spans) < min(ended for _, ended in spans), "all ran at the same time"

    redis_urls.valkey.restart()
    wait_for(lambda: app.add.apply_async((2, 3), retry=True).get(timeout=5) == 5, seconds=40)
    assert worker.stop() == 0
    stats = broker.stats(["celery"])[0]
    assert (stats.waiting, stats.leased, stats.dead) == (0, 0, 0)
