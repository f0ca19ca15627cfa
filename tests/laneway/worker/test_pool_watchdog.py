"""Pool processes are killed or stand still while their worker lives: its tasks run all the same."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from laneway.engine import Engine, Limits
from tests.fixtures.valkey import RunningValkey
from tests.fixtures.waiting import wait_until
from tests.laneway.worker.test_celery import Start, Worker, app, broker, start
from tests.laneway.worker.workers import cut

__all__ = ["app", "broker", "start"]
KILLS = 150


def processes(worker: Worker) -> list[psutil.Process]:
    """The processes of the worker's pool."""
    return psutil.Process(worker.process.pid).children()


def send(process: psutil.Process, number: signal.Signals) -> bool:
    """Send a signal; False if the process has ended."""
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return True


def test_no_task_is_lost_when_pool_processes_are_killed_by_the_hundred(
    app: Any, start: Start, broker: Engine, tmp_path: Path
) -> None:
    broker.limit("celery", Limits(max_deliveries=KILLS))
    worker = start("prefork", "-c", "2", "--prefetch-multiplier", "2").wait_until_ready()
    chance, folder, put, killed = random.Random(3), tmp_path / "marks", 0, 0
    folder.mkdir()
    while killed < KILLS:
        for _ in range(3):
            app.mark.apply_async((str(folder), f"t{put}"))
            put += 1
        victims = processes(worker)
        killed += sum(send(process, signal.SIGKILL) for process in victims[: chance.choice((1, 1, 2))])
        threading.Event().wait(chance.random() * 0.1)
        assert worker.process.poll() is None, worker.log.read_text()

    wait_until(lambda: len(list(folder.iterdir())) == put, seconds=40)
    wait_until(lambda: broker.stats(["celery"])[0].leased == 0, seconds=10)
    stats = broker.stats(["celery"])[0]
    assert (stats.waiting, stats.dead) == (0, 0)


@pytest.mark.parametrize("reconnects", [0, 1])
def test_the_task_of_a_process_that_stands_still_goes_to_another(
    app: Any, start: Start, valkey: RunningValkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reconnects: int
) -> None:
    monkeypatch.setenv("CHECK_SECONDS", "0.1")
    worker = start("prefork", "-c", "2").wait_until_ready()
    for _ in range(reconnects):
        cut(valkey)
        wait_until(lambda: worker.log.read_text().count("Connected to") == 2, seconds=20)
    wait_until(lambda: len(processes(worker)) == 2, seconds=20)
    send(processes(worker)[0], signal.SIGSTOP)

    for number in range(4):
        app.mark.apply_async((str(tmp_path), f"t{number}"))

    wait_until(lambda: len(list(tmp_path.glob("t?"))) == 4, seconds=20)
    assert "is replaced" in worker.log.read_text()
    assert worker.process.poll() is None


def test_a_worker_whose_pool_begins_nothing_ends_and_gives_its_messages_back(
    app: Any, start: Start, broker: Engine, tmp_path: Path
) -> None:
    stop_file = tmp_path / "stop"
    environment = {"CHECK_SECONDS": "0.1", "STOP_FILE": str(stop_file)}
    worker = start("prefork", "-c", "2", environment=environment).wait_until_ready()
    stop_file.touch()
    for process in processes(worker):
        send(process, signal.SIGSTOP)
    wait_until(lambda: {process.status() for process in processes(worker)} == {psutil.STATUS_STOPPED}, seconds=20)

    app.mark.apply_async((str(tmp_path), "t"))

    wait_until(lambda: worker.process.poll() is not None, seconds=90)
    assert worker.process.returncode == os.EX_SOFTWARE
    assert "the worker stops" in worker.log.read_text()
    start("prefork", "-c", "1")
    wait_until((tmp_path / "t").exists, seconds=60)
    wait_until(lambda: broker.stats(["celery"])[0].leased == 0, seconds=20)
