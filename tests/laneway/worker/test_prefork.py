"""The engine's prefork pool exchanges data with its processes in another way than Celery's, with the same effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from laneway.engine import Engine
from tests.fixtures.waiting import wait_until
from tests.laneway.worker.workers import Start, app, broker, start

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
