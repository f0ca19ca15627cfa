"""The engine's prefork pool exchanges data with its processes in another way than Celery's, with the same effect."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import psutil

from laneway.engine import Engine
from tests.fixtures.valkey import RunningValkey
from tests.fixtures.waiting import wait_until
from tests.laneway.worker.workers import Start, Worker, app, broker, start

__all__ = ["app", "broker", "start"]
APP = "tests.laneway.worker.celery_app"


def test_a_worker_with_prefork_uses_this_pool(app: Any, start: Start) -> None:
    start("prefork", "-c", "1").wait_until_ready()
    (stats,) = app.app.control.inspect(timeout=30, limit=1).stats().values()
    assert stats["pool"]["implementation"] == "laneway.worker.prefork:TaskPool"


def test_calls_and_results_larger_than_a_pipe_arrive_as_a_whole_beside_small_ones(app: Any, start: Start) -> None:
    start("prefork", "-c", "2").wait_until_ready()
    sizes = [1, 1_000, 4_000, 70_000, 300_000] * 3
    results = [app.same.delay("x" * size) for size in sizes]
    assert [len(result.get(timeout=30)) for result in results] == sizes


def test_a_task_that_runs_is_known_to_run_and_one_that_waits_is_not(app: Any, start: Start, tmp_path: Path) -> None:
    start("prefork", "-c", "1").wait_until_ready()
    first, second = (app.note.delay(str(tmp_path), name, 2.5) for name in ("first", "second"))
    wait_until((tmp_path / "first").exists, seconds=20)
    (active,) = app.app.control.inspect(timeout=30, limit=1).active().values()
    assert [task["id"] for task in active] == [first.id]
    assert active[0]["worker_pid"]
    assert second.get(timeout=30) == "second"


def test_processes_that_are_replaced_after_each_task_lose_and_repeat_no_task(
    app: Any, start: Start, broker: Engine, tmp_path: Path
) -> None:
    worker = start("prefork", "-c", "2", "--max-tasks-per-child", "1").wait_until_ready()
    results = [app.note.delay(str(tmp_path), f"n{number}", 0) for number in range(12)]
    assert [result.get(timeout=40) for result in results] == [f"n{number}" for number in range(12)]
    assert worker.stop() == 0
    assert [file.read_text().count("start") for file in tmp_path.glob("n*")] == [1] * 12
    stats = broker.stats(["celery"])[0]
    assert (stats.waiting, stats.leased, stats.dead) == (0, 0, 0)


def test_a_job_that_a_process_has_not_started_when_the_connection_breaks_runs_once(
    app: Any, start: Start, broker: Engine, valkey: RunningValkey, tmp_path: Path
) -> None:
    worker = start("prefork", "-c", "1").wait_until_ready()
    process = only_process(worker)
    process.suspend()
    result = app.note.delay(str(tmp_path), "n0", 0)
    wait_until(lambda: broker.stats(["celery"])[0].leased == 1, seconds=20)
    valkey.restart()
    wait_until(lambda: worker.log.read_text().count("Connected to") == 2, seconds=30)
    process.resume()

    assert result.get(timeout=30) == "n0"
    assert app.note.delay(str(tmp_path), "n1", 0).get(timeout=30) == "n1"
    wait_until(lambda: broker.stats(["celery"])[0].leased == 0, seconds=10)
    assert [(tmp_path / name).read_text().count("start") for name in ("n0", "n1")] == [1, 1]
    assert only_process(worker).pid == process.pid


def test_a_process_that_starts_while_there_is_no_connection_is_not_killed(
    app: Any, start: Start, valkey: RunningValkey, tmp_path: Path
) -> None:
    worker = start("prefork", "-c", "1").wait_until_ready()
    first = only_process(worker)
    worker.signal(signal.SIGSTOP)  # so that it learns of both at the same time
    first.kill()
    valkey.stop()
    worker.signal(signal.SIGCONT)
    wait_until(lambda: "in 4.00 seconds" in worker.log.read_text(), seconds=30)
    second = only_process(worker)
    valkey.start()

    assert app.note.delay(str(tmp_path), "n0", 0).get(timeout=30) == "n0"
    assert "Timed out waiting for UP" not in worker.log.read_text()
    assert only_process(worker).pid == second.pid != first.pid


def only_process(worker: Worker) -> psutil.Process:
    """The process of a pool of one."""

    def living() -> list[psutil.Process]:
        return [one for one in psutil.Process(worker.process.pid).children() if one.status() != psutil.STATUS_ZOMBIE]

    return wait_until(living, seconds=60)[0]
