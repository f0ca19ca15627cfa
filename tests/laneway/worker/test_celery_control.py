"""Celery's `inspect`, `control` and events on the engine."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
import threading
import urllib.request
from base64 import b64encode
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError

from laneway.engine import Engine
from tests.fixtures.valkey import RedisUrls, free_port
from tests.laneway.worker.workers import BACKEND, ROOT, Start, app, broker, start, wait_for

__all__ = ["app", "broker", "start"]
APP = "tests.laneway.worker.feature_app"
W0 = "w0@test"


def test_inspect_shows_the_tasks_of_a_worker(app: Any, start: Start, broker: Engine, tmp_path: Path) -> None:
    worker = start("prefork", "-c", "1").wait_until_ready()
    running = app.note.delay(str(tmp_path), "n0", 8)
    wait_for((tmp_path / "n0").exists)
    waiting, later = app.note.delay(str(tmp_path), "n1"), app.add.apply_async((1, 2), countdown=600)
    wait_for(lambda: broker.stats(["celery"])[0].leased == 2)
    inspect = app.app.control.inspect([W0], timeout=30)

    assert [task["id"] for task in inspect.active()[W0]] == [running.id]
    assert [task["id"] for task in inspect.reserved()[W0]] == [waiting.id]
    assert [entry["request"]["id"] for entry in inspect.scheduled()[W0]] == [later.id]
    assert inspect.query_task(running.id, later.id)[W0].keys() == {running.id}
    assert inspect.active_queues()[W0][0]["name"] == "celery"
    assert f"{APP}.add" in inspect.registered()[W0]
    assert inspect.stats()[W0]["broker"]["transport"] == "laneway:Transport"
    assert inspect.ping() == {W0: {"ok": "pong"}}
    worker.kill()


def test_a_scheduled_task_is_described_as_celery_does_it(app: Any, start: Start) -> None:
    start("solo").wait_until_ready()
    later = app.add.apply_async((1,), {"y": 2}, countdown=600, priority=3)
    entry: dict[str, Any] = {}

    def listed() -> bool:
        entry.update(app.app.control.inspect([W0], timeout=30).scheduled()[W0][0])
        return True

    wait_for(listed)
    request = entry["request"]
    assert (request["id"], request["name"]) == (later.id, f"{APP}.add")
    assert (request["args"], request["kwargs"]) == ([1], {"y": 2})
    assert request["delivery_info"]["priority"] == 3
    assert entry["eta"].endswith("+00:00")


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_revoke_drops_a_waiting_task_and_terminates_a_running_one(
    app: Any, start: Start, broker: Engine, tmp_path: Path, pool: str
) -> None:
    start(pool, "-c", "1").wait_until_ready()
    running = app.note.delay(str(tmp_path), "n0", 60 if pool == "prefork" else 3)
    wait_for((tmp_path / "n0").exists)
    waiting = app.note.delay(str(tmp_path), "n1")
    wait_for(lambda: broker.stats(["celery"])[0].leased == 2)

    waiting.revoke()
    if pool == "prefork":
        running.revoke(terminate=True, signal="SIGKILL")
        with pytest.raises(TaskRevokedError):
            running.get(timeout=20)
    with pytest.raises(TaskRevokedError):
        waiting.get(timeout=20)
    wait_for(lambda: broker.stats(["celery"])[0].leased == 0)
    assert not (tmp_path / "n1").exists()
    assert app.add.delay(1, 1).get(timeout=20) == 2


def test_control_sets_the_limits_of_a_task(app: Any, start: Start) -> None:
    start("prefork", "-c", "1").wait_until_ready()
    control = app.app.control
    replies = control.time_limit(app.note.name, soft=1, hard=2, reply=True, timeout=30, destination=[W0])
    assert replies == [{W0: {"ok": "time limits set successfully"}}]  # but Celery 5.7 does not apply them
    control.rate_limit(app.add.name, "2/s", reply=True, timeout=30, destination=[W0])
    results = [app.add.delay(n, 0) for n in range(4)]
    assert [result.get(timeout=20) for result in results] == [0, 1, 2, 3]
    done = sorted(result.date_done for result in results)
    assert (done[-1] - done[0]).total_seconds() > 1, "four at two a second"


@pytest.mark.parametrize("other", ["another database", "another prefix"])
def test_broadcasts_and_tasks_stay_in_their_database_and_under_their_prefix(
    app: Any, start: Start, broker: Engine, redis_urls: RedisUrls, tmp_path: Path, other: str
) -> None:
    redis_urls.valkey.flush(5)
    apart = {"BROKER": redis_urls.valkey.url(5)} if other == "another database" else {}
    prefix = {"OPTIONS": json.dumps({"global_keyprefix": "shop:"})} if other == "another prefix" else {}
    stranger = start("threads", "-c", "1", "-E", environment=apart | prefix).wait_until_ready()
    own = start("threads", "-c", "1", "-E").wait_until_ready()
    control = app.app.control
    assert [*control.inspect(timeout=3).ping()] == ["w1@test"]
    app.note.delay(str(tmp_path), "n0").get(timeout=20)
    assert control.broadcast("shutdown", reply=False) is None
    assert own.process.wait(20) == 0
    app.note.delay(str(tmp_path), "n1")
    wait_for(lambda: broker.stats(["celery"])[0].ready == 1)
    assert stranger.process.poll() is None
    assert "w1@test" not in stranger.log.read_text()
    assert not (tmp_path / "n1").exists()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_garbage_on_the_channels_of_control_and_events_stops_no_worker(
    app: Any, start: Start, broker: Engine, pool: str
) -> None:
    start(pool, "-c", "1").wait_until_ready()
    wrong_call = {"method": 7, "arguments": [], "destination": None, "reply_to": "nobody", "ticket": {}}
    message = {
        "body": b64encode(json.dumps(wrong_call).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {},
        "properties": {"body_encoding": "base64", "delivery_tag": "x", "delivery_info": {}},
    }
    for payload in (b"", b"\xff\x00", b"{}", b"null", json.dumps(message).encode()):
        for exchange in ("celery.pidbox", "celeryev"):
            broker.runner.call("PUBLISH", broker.keys.fanout(exchange), payload)
    # After a wrong call Celery subscribes again: what is published in between reaches nobody.
    inspect = app.app.control.inspect([W0], timeout=3)
    wait_for(lambda: inspect.ping() == {W0: {"ok": "pong"}}, seconds=60)
    assert app.add.delay(1, 1).get(timeout=20) == 2


def test_a_pool_grows_shrinks_and_restarts(app: Any, start: Start, broker: Engine) -> None:
    start("prefork", "-c", "2").wait_until_ready()
    control = app.app.control

    def processes() -> int:
        return len(control.inspect([W0], timeout=30).stats()[W0]["pool"]["processes"])

    control.pool_grow(1, reply=True, timeout=30, destination=[W0])
    wait_for(lambda: processes() == 3)
    control.pool_shrink(2, reply=True, timeout=30, destination=[W0])
    wait_for(lambda: processes() == 1)
    assert control.pool_restart(reply=True, timeout=30, destination=[W0]) == [{W0: {"ok": "reload started"}}]
    assert app.add.delay(1, 1).get(timeout=20) == 2
    wait_for(lambda: broker.stats(["celery"])[0].leased == 0)


def test_a_pool_scales_itself_with_the_work(app: Any, start: Start, tmp_path: Path) -> None:
    start("prefork", "--autoscale", "3,1").wait_until_ready()
    for number in range(6):
        app.note.delay(str(tmp_path), f"n{number}", 1.5)
    inspect = app.app.control.inspect([W0], timeout=30)
    wait_for(lambda: len(inspect.active()[W0]) == 3)
    app.app.control.autoscale(2, 1, reply=True, timeout=30, destination=[W0])
    wait_for(lambda: inspect.stats()[W0]["autoscaler"]["max"] == 2)
    wait_for(lambda: sum("end" in path.read_text() for path in tmp_path.glob("n?")) == 6)


def test_a_worker_consumes_another_queue_until_it_is_cancelled(app: Any, start: Start, broker: Engine) -> None:
    start("threads", "-c", "1").wait_until_ready()
    control = app.app.control
    other = app.add.apply_async((1, 2), queue="other")
    control.add_consumer("other", reply=True, timeout=30, destination=[W0])
    assert other.get(timeout=20) == 3
    control.cancel_consumer("other", reply=True, timeout=30, destination=[W0])
    app.add.apply_async((1, 2), queue="other")
    assert app.add.delay(2, 2).get(timeout=20) == 4
    assert broker.stats(["other"])[0].ready == 1


def test_shutdown_ends_a_worker(app: Any, start: Start) -> None:
    worker = start("prefork", "-c", "1").wait_until_ready()
    app.app.control.shutdown(destination=[W0])
    assert worker.process.wait(30) == 0


def test_a_worker_s_events_come_through_the_engine(app: Any, start: Start) -> None:
    seen: list[str] = []
    ended = threading.Event()

    def listen() -> None:
        with app.app.connection_for_read() as connection:
            receiver = app.app.events.Receiver(connection, handlers={"*": lambda event: seen.append(event["type"])})
            for _ in receiver.itercapture(limit=None, timeout=1, wakeup=True):
                pass

    def until_ended() -> None:
        while not ended.is_set():
            try:
                listen()
            except TimeoutError:
                continue

    thread = threading.Thread(target=until_ended)
    thread.start()
    try:
        worker = start("solo", "-E").wait_until_ready()
        wait_for(lambda: "worker-heartbeat" in seen or "worker-online" in seen)
        app.add.delay(1, 1).get(timeout=20)
        with pytest.raises(ValueError, match="meant to"):
            app.fail.delay().get(timeout=20)
        worker.signal(signal.SIGTERM)
        wanted = {"task-received", "task-started", "task-succeeded", "task-failed", "worker-offline"}
        wait_for(lambda: wanted <= set(seen))
    finally:
        ended.set()
        thread.join()


def test_flower_sees_workers_and_their_tasks(
    app: Any, start: Start, redis_urls: RedisUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWER_UNAUTHENTICATED_API", "true")
    port = free_port()
    command = [sys.executable, "-m", "celery", "-A", APP, "flower", "--address=127.0.0.1", f"--port={port}"]
    (tmp_path / "flower.py").touch()  # without the project's configuration of Flower
    command.append(f"--conf={tmp_path / 'flower.py'}")
    with (tmp_path / "flower.log").open("wb") as log:
        flower = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)

    def get(path: str) -> Any:
        with closing(urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{path}", timeout=10)) as response:
            return json.load(response)

    try:
        wait_for(lambda: get("tasks") == {}, seconds=60)
        start("solo", "-E").wait_until_ready()
        task = app.add.delay(3, 4)
        assert task.get(timeout=20) == 7
        wait_for(lambda: get(f"task/info/{task.id}")["state"] == "SUCCESS")
        wait_for(lambda: get("workers?refresh=1")[W0]["active_queues"][0]["name"] == "celery")
    finally:
        flower.terminate()
        flower.wait(20)
    assert BACKEND + redis_urls.backend == app.app.conf.result_backend


def test_tasks_of_priority_zero_run_first_if_the_app_says_so(
    app: Any, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"zero_goes_first": True}
    monkeypatch.setenv("OPTIONS", json.dumps(options))
    module = importlib.reload(importlib.import_module(APP))
    for priority in (9, 5, 0):
        module.note.apply_async((str(tmp_path), f"n{priority}"), priority=priority)
    start("solo", "-c", "1", "--prefetch-multiplier", "1")
    wait_for(lambda: len(list(tmp_path.glob("n?"))) == 3)
    assert [path.name for path in sorted(tmp_path.glob("n?"), key=lambda path: path.read_text())] == ["n0", "n5", "n9"]
