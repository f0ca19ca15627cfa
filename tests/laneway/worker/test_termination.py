"""A signal to a worker and its pool processes at once, as systemd sends it, is the worker's business alone."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from laneway.engine import Engine
from tests.fixtures.waiting import wait_until
from tests.laneway.worker.workers import Start, Worker, app, broker, start

__all__ = ["app", "broker", "start"]


def to_all(worker: Worker, number: signal.Signals) -> None:
    os.killpg(worker.process.pid, number)


def children(worker: Worker) -> list[psutil.Process]:
    return psutil.Process(worker.process.pid).children()


def lines(file: Path) -> list[str]:
    return [line.split()[0] for line in file.read_text().splitlines()]


def test_sigterm_to_the_whole_group_is_a_warm_stop_however_often_it_comes(
    app: Any, start: Start, broker: Engine, tmp_path: Path
) -> None:
    worker = start("prefork", "-c", "2").wait_until_ready()
    for name in ("first", "second"):
        app.note.delay(str(tmp_path), name, 3)
    wait_until(lambda: all((tmp_path / name).exists() for name in ("first", "second")), seconds=20)
    for _ in range(3):
        to_all(worker, signal.SIGTERM)
    assert worker.process.wait(30) == 0
    assert [lines(tmp_path / name) for name in ("first", "second")] == [["start", "end"]] * 2
    stats = broker.stats(["celery"])[0]
    assert (stats.waiting, stats.leased, stats.dead) == (0, 0, 0)


def test_a_signal_from_elsewhere_does_not_end_a_pool_process_and_one_from_its_worker_does(
    app: Any, start: Start, tmp_path: Path
) -> None:
    worker = start("prefork", "-c", "1").wait_until_ready()
    (process,) = children(worker)
    task = app.note.delay(str(tmp_path), "n", 60)
    wait_until((tmp_path / "n").exists, seconds=20)
    for number in (signal.SIGTERM, signal.SIGHUP):
        process.send_signal(number)
    with pytest.raises(psutil.TimeoutExpired):
        process.wait(1)
    app.app.control.revoke(task.id, terminate=True)
    process.wait(20)
    wait_until(lambda: children(worker) != [process], seconds=20)
    assert app.add.delay(1, 2).get(timeout=20) == 3
    assert worker.stop() == 0


def test_sigquit_to_the_whole_group_ends_the_tasks_and_gives_them_back(
    app: Any, start: Start, broker: Engine, tmp_path: Path
) -> None:
    worker = start("prefork", "-c", "1").wait_until_ready()
    app.note.delay(str(tmp_path), "n", 60)
    wait_until((tmp_path / "n").exists, seconds=20)
    to_all(worker, signal.SIGTERM)  # the warm stop waits for the task
    to_all(worker, signal.SIGQUIT)
    worker.process.wait(30)
    wait_until(lambda: broker.stats(["celery"])[0].ready == 1, seconds=10)
    assert lines(tmp_path / "n") == ["start"]
