"""A worker that takes no work although some waits is restarted; one that is busy, idle or has a paused queue is not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from laneway.engine import Engine, Limits
from tests.fixtures.valkey import RunningValkey
from tests.fixtures.waiting import wait_until
from tests.laneway.worker.workers import Start, Worker, cut
from tests.laneway.worker.workers import app as app
from tests.laneway.worker.workers import broker as broker
from tests.laneway.worker.workers import start as start

APP = "tests.laneway.worker.stuck_app"
PATIENCE = 3.0
"""Seconds after which `stuck_app` takes a worker for stuck."""

pytestmark = pytest.mark.usefixtures("stuck_file")


@pytest.fixture
def stuck_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that makes workers stuck."""
    monkeypatch.setenv("STUCK_FILE", str(path := tmp_path / "stuck"))
    return path


def until_stuck(stuck_file: Path, told: str = "prepared") -> None:
    """Make the worker stuck, once it is prepared for that, and wait until it is."""
    wait_until(stuck_file.with_name("stuck.prepared").exists, seconds=20)
    stuck_file.touch()
    wait_until(stuck_file.with_name(f"stuck.{told}").exists, seconds=20)


def until_over(worker: Worker, *, seconds: float = 40) -> int:
    """Wait until a worker has ended; returns its exit code."""
    wait_until(lambda: worker.process.poll() is not None, seconds=seconds)
    assert worker.process.returncode is not None
    return worker.process.returncode


@pytest.mark.parametrize(
    ("how", "cause"),
    [("silent", "it does not ask the broker"), ("full", "it has no room, and 0 of 2 slots are busy")],
)
def test_a_worker_that_takes_nothing_ends_and_another_does_the_work(
    app: Any, start: Start, broker: Engine, stuck_file: Path, tmp_path: Path, how: str, cause: str
) -> None:
    worker = start("prefork", "-c", "2", environment={"STUCK": how}).wait_until_ready()
    until_stuck(stuck_file)
    for number in range(3):
        app.mark.apply_async((str(tmp_path), f"t{number}"))

    assert until_over(worker) == os.EX_SOFTWARE
    assert "This worker took none of 3 waiting tasks for" in worker.log.read_text()
    assert cause in worker.log.read_text()
    stuck_file.unlink()
    start("prefork", "-c", "2")
    wait_until(lambda: len(list(tmp_path.glob("t?"))) == 3, seconds=30)
    assert broker.stats(["celery"])[0].dead == 0


def test_a_stuck_worker_first_finishes_the_task_that_it_runs(
    app: Any, start: Start, stuck_file: Path, tmp_path: Path
) -> None:
    worker = start("prefork", "-c", "2", environment={"STUCK": "silent"}).wait_until_ready()
    app.note.apply_async((str(tmp_path), "long", 8))
    wait_until((tmp_path / "long").exists, seconds=20)
    stuck_file.touch()
    app.mark.apply_async((str(tmp_path), "t"))

    assert until_over(worker) == os.EX_SOFTWARE
    assert [line.split()[0] for line in (tmp_path / "long").read_text().splitlines()] == ["start", "end"]


def test_the_task_of_a_stuck_worker_that_does_not_end_runs_again(
    app: Any, start: Start, stuck_file: Path, tmp_path: Path
) -> None:
    environment = {"STUCK": "silent", "WARM_SECONDS": "1"}
    worker = start("prefork", "-c", "2", environment=environment).wait_until_ready()
    app.note.apply_async((str(tmp_path), "long", 20))
    wait_until((tmp_path / "long").exists, seconds=20)
    stuck_file.touch()
    app.mark.apply_async((str(tmp_path), "t"))

    assert until_over(worker) != 0
    stuck_file.unlink()
    start("prefork", "-c", "2")
    starts: Callable[[], int] = lambda: (tmp_path / "long").read_text().count("start")  # noqa: E731
    wait_until(lambda: starts() == 2 and (tmp_path / "t").exists(), seconds=30)


def test_a_worker_whose_main_loop_hangs_exits(app: Any, start: Start, stuck_file: Path, tmp_path: Path) -> None:
    environment = {"STUCK": "hangs", "WARM_SECONDS": "1"}
    worker = start("prefork", "-c", "2", environment=environment).wait_until_ready()
    until_stuck(stuck_file, "hangs")
    app.mark.apply_async((str(tmp_path), "t"))

    assert until_over(worker, seconds=40) != 0
    assert "its main loop does not turn" in worker.log.read_text()


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_whose_slots_are_busy_with_long_tasks_is_left_alone(
    app: Any, start: Start, broker: Engine, valkey: RunningValkey, tmp_path: Path, pool: str
) -> None:
    worker = start(pool, *(() if pool == "solo" else ("-c", "2")), "--prefetch-multiplier", "1").wait_until_ready()
    slots = 1 if pool == "solo" else 2
    for number in range(slots + 2):
        app.note.apply_async((str(tmp_path), f"long{number}", 2.5 * PATIENCE))
    wait_until(lambda: len(list(tmp_path.glob("long*"))) == slots, seconds=20)
    assert broker.stats(["celery"])[0].ready > 0, "something waits all the time"
    if pool == "prefork":  # Celery forgets its requests at a lost connection; they run on
        cut(valkey)

    ended: Callable[[], int] = lambda: sum("end" in path.read_text() for path in tmp_path.glob("long*"))  # noqa: E731
    wait_until(lambda: ended() >= slots, seconds=40)
    assert worker.process.poll() is None
    assert "took none of" not in worker.log.read_text()


def test_an_idle_worker_and_one_whose_queue_is_paused_or_limited_are_left_alone(
    app: Any, start: Start, broker: Engine, tmp_path: Path
) -> None:
    worker = start("prefork", "-c", "2").wait_until_ready()
    broker.throttle("celery", Limits(max_in_flight=0))
    app.mark.apply_async((str(tmp_path), "t"))
    _let_pass(broker, seconds=1.5 * PATIENCE)
    broker.throttle("celery", Limits())
    broker.pause("celery")
    app.mark.apply_async((str(tmp_path), "u"))
    _let_pass(broker, seconds=1.5 * PATIENCE)

    assert worker.process.poll() is None, worker.log.read_text()
    broker.resume("celery")
    wait_until((tmp_path / "u").exists, seconds=20)


def _let_pass(broker: Engine, *, seconds: float) -> None:
    """Wait by the clock of the server: what is tested is that nothing happens in this time."""
    ends = broker.time() + seconds
    wait_until(lambda: broker.time() > ends, seconds=seconds + 10)
