"""The bench of a drill: a queue, workers and numbered tasks of its own, which are gone at its end."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from celery import Celery
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from laneway.engine import Engine
from laneway.engine.errors import EngineError
from laneway.platform.operations.unknown_queues import DRILL_QUEUES as PREFIX
from laneway.server.drill.app import TASK, Plan, make_app
from laneway.server.drill.ledger import BEGAN, ENDED, READY, Entry, Ledger, ended, open_at
from laneway.server.drill.processes import DrillFailed, DrillWorker, wait_until

EXPIRES_MS: Final = 3_600_000
"""The broker itself deletes the queue of a drill that was killed, when nobody has used it for this long."""
ERRORS: Final = (EngineError, RedisError, KombuError, OSError)
START_SECONDS: Final = 60.0

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Load:
    """How many tasks are submitted before the disturbance, and how many seconds each takes; a quarter more follow."""

    tasks: int = 200
    seconds: float = 0.2

    @property
    def later(self) -> int:
        """How many follow after the disturbance."""
        return max(4, self.tasks // 4)


class Bench:
    """What a drill works with."""

    def __init__(self, plan: Plan, folder: Path, load: Load, *, app: Celery, engine: Engine) -> None:
        self.plan, self.load, self.engine = plan, load, engine
        self.ledger = Ledger(Path(plan.ledger))
        self.submitted = 0
        self._app, self._folder = app, folder
        self._workers: list[DrillWorker] = []

    def start_workers(self, **brokers: str) -> list[DrillWorker]:
        """Start a worker for each name, on this address of the broker, and wait until all are ready."""
        started = [DrillWorker(replace(self.plan, broker=url), name, self._folder) for name, url in brokers.items()]
        self._workers += started
        for worker in started:
            is_up = lambda worker=worker: worker.process.is_over or self._is_ready(worker.name)  # noqa: E731
            wait_until(is_up, seconds=START_SECONDS, what=f"the start of the worker {worker.name}")
            if worker.process.is_over:
                raise DrillFailed(f"the worker {worker.name} ended: {worker.process.last_lines()}")
        return started

    def submit(self, number: int) -> None:
        """Submit so many tasks. Raises DrillFailed."""
        task: Any = self._app.tasks[TASK]
        for each in range(self.submitted, self.submitted + number):
            try:
                task.apply_async((each, self.load.seconds), retry=False)
            except ERRORS as error:
                raise DrillFailed(f"the broker does not take tasks: {error}") from error
            self.submitted = each + 1

    def until_busy(self, worker: DrillWorker) -> None:
        """Wait until a quarter of the tasks has ended and this worker runs a task."""
        wanted = self.load.tasks // 4

        def is_busy() -> bool:
            entries = self.ledger.read()
            return len(ended(entries)) >= wanted and bool(open_at(entries, worker.name, float("inf")))

        wait_until(is_busy, seconds=self.patience, what="the first quarter of the tasks")

    def until_over(self) -> None:
        """Wait until the queue is empty and nothing is held. What is lost is not waited for longer than `patience`."""
        with suppress(DrillFailed):
            wait_until(self._is_over, seconds=self.patience, what="the end of the tasks")

    def until_works(self, worker: DrillWorker, *, since: float, seconds: float) -> None:
        """Wait until this worker begins a task. Raises DrillFailed."""

        def works() -> bool:
            return any(
                entry.event == BEGAN and entry.worker == worker.name and entry.at > since for entry in self.entries
            )

        wait_until(works, seconds=seconds, what=f"the return of the worker {worker.name}")

    @property
    def entries(self) -> list[Entry]:
        """What the tasks have written so far."""
        return self.ledger.read()

    @property
    def patience(self) -> float:
        """Seconds after which all tasks must be over."""
        return 60 + 3 * self.plan.lease + self.load.tasks * self.load.seconds

    def touched_by(self, worker: DrillWorker | None, first: float, last: float) -> frozenset[int]:
        """The tasks that ran in this worker (None: in any) at some moment of a time, or had ended just before it.

        The ack of a task that has just ended may not have been sent.
        """
        names = {each.name for each in self._workers} if worker is None else {worker.name}
        entries = self.entries
        running = {number for name in names for number in open_at(entries, name, first)}
        near = {
            entry.number
            for entry in entries
            if entry.worker in names and entry.event in (BEGAN, ENDED) and first - JUST <= entry.at <= last
        }
        return frozenset(running | near)

    def end(self) -> None:
        """Kill the workers that are left."""
        for worker in self._workers:
            worker.kill()

    def _is_ready(self, name: str) -> bool:
        return any(entry.event == READY and entry.worker == name for entry in self.entries)

    def _is_over(self) -> bool:
        try:
            (stats,) = self.engine.stats([self.plan.queue])
        except ERRORS:
            return False
        return stats.waiting + stats.leased == 0


JUST: Final = 1.0
"""Seconds between the end of a task and the moment at which its ack must have reached the broker."""


@contextmanager
def bench(plan: Plan, load: Load, say: Say) -> Generator[Bench]:
    """A bench on the broker of the plan. At the end, also when interrupted, its workers and its queue are gone."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix=PREFIX)))
        plan = replace(plan, queue=PREFIX + secrets.token_hex(6), ledger=str(folder / "ledger"))
        app = make_app(plan)
        stack.callback(app.close)
        connection: Any = stack.enter_context(app.connection_for_write())
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=3)
            engine: Engine = connection.transport.engine
            engine.expire(plan.queue, EXPIRES_MS)
        except ERRORS as error:
            raise DrillFailed(f"the broker does not answer: {error}") from error
        stack.callback(_remove_queue, connection, plan.queue, say)
        made = Bench(plan, folder, load, app=app, engine=engine)
        stack.callback(made.end)
        yield made


def _remove_queue(connection: Any, queue: str, say: Say) -> None:
    try:
        engine: Engine = connection.transport.engine
        engine.delete(queue)
        engine.runner.call("DEL", engine.keys.bindings(queue))
    except ERRORS as error:
        say(f"The queue {queue} of the drill is left: {error}. The broker deletes it an hour after its last use.")
