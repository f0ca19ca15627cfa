"""The platform of a test: submit tasks, run them on real servers, move the clock, and look at the results."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import httpx2

from laneway.platform.platform import Platform
from laneway.platform.registry import TaskRef
from laneway.schemas.payload import Payload
from laneway.schemas.task import FINISHED, TaskDetails, TaskHandle
from laneway.testing.clock import Clock
from laneway.testing.installation import TestInstallation
from laneway.testing.schedules import Schedules
from laneway.testing.worker import InlineWorker

MOST_TASKS: Final = 10_000
"""Runs after which the tasks count as endless."""


class TestPlatform:
    """A platform with a worker that runs in the thread of the test, and a clock that the test moves."""

    __test__ = False

    def __init__(self, installation: TestInstallation, platform: Platform, clock: Clock) -> None:
        self.platform, self.clock = platform, clock
        self._installation = installation
        self._keys = platform.broker.require_engine("tests").keys
        self._schedules = Schedules(installation.app, clock)
        self._worker = InlineWorker(installation.app, platform.broker.queues)
        platform.broker.prepare()
        clock.on_move(self._advance_messages)

    def submit(self, task: TaskRef, payload: Payload | dict[str, Any] | None = None, **options: Any) -> TaskHandle:
        """Submit a task, as `TaskManager.submit` does."""
        return self.platform.tasks.submit(task, payload if payload is not None else {}, **options)

    def status(self, task: TaskHandle | str) -> TaskDetails:
        """What the platform says of a task. Raises UnknownTask."""
        return self.platform.tasks.status(_id(task))

    def run_until_idle(self) -> list[str]:
        """Run tasks until none is due; returns their ids, in the order in which they were run.

        Raises RuntimeError when the tasks do not end.
        """
        ran: list[str] = []
        while True:
            before = len(ran)
            self.platform.tasks.outbox.relay()
            for task_id in self._worker.run_due():
                ran.append(task_id)
                if len(ran) > MOST_TASKS:
                    raise RuntimeError(f"The tasks did not end in {MOST_TASKS} runs; the last one was {task_id}.")
            self.platform.recorder.catch_up()  # submits what follows the ends of tasks, such as `on_failure` tasks
            if len(ran) == before:
                return ran

    def run_until_done(self) -> list[str]:
        """Run all tasks, also those that are due later: the clock moves forward to each of them. Returns their ids."""
        ran = self.run_until_idle()
        while (seconds := self.seconds_until_due()) is not None:
            self.clock.move(seconds)
            ran += self.run_until_idle()
            if len(ran) > MOST_TASKS:
                raise RuntimeError(f"The tasks did not end in {MOST_TASKS} runs.")
        return ran

    def wait(self, task: TaskHandle | str) -> TaskDetails:
        """Run tasks until this one is over, and return its status. The clock moves forward to what is due next.

        Raises AssertionError when nothing is left to run and the task is not over.
        """
        for _ in range(MOST_TASKS):
            self.run_until_idle()
            if (found := self.status(task)).status in FINISHED:
                return found
            if (seconds := self.seconds_until_due()) is None:
                reason = f": {found.waiting_for}" if found.waiting_for else ""
                raise AssertionError(f"{found.name} ({found.task_id}) is {found.status}, and nothing is due{reason}")
            self.clock.move(seconds)
        raise RuntimeError(f"The task {_id(task)} does not end.")

    def seconds_until_due(self) -> float | None:
        """The seconds until the next delayed task is due; None if no task is delayed."""
        engine = self.platform.broker.require_engine("delayed tasks of a test")
        now = engine.time()
        due = [score / 1000 for queue in self.platform.broker.queues for _, score in self._scheduled(queue, 0)]
        return max(min(due) - now, 0.001) if due else None

    def send_due_schedules(self) -> list[str]:
        """Send the schedules that have come due since the test began, each once, as Beat does; returns their keys."""
        return self._schedules.send_due()

    @cached_property
    def client(self) -> httpx2.Client:
        """A client of the application's API, which serves this platform from here on."""
        api = self._installation.api
        api.app.state.services = self.platform
        return httpx2.Client(base_url=api.url, timeout=30)

    def close(self) -> None:
        """Close the connections of the worker and of the client."""
        self._worker.close()
        if "client" in self.__dict__:
            self.client.close()

    def _scheduled(self, queue: str, last: int) -> list[tuple[bytes, float]]:
        """Delayed messages of a queue, with the times (ms) when they are due."""
        key = self._keys.key(queue, "scheduled")
        return self._installation.broker.zrange(key, 0, last, withscores=True)

    def _advance_messages(self, seconds: float) -> None:
        """Let delayed messages come due earlier by these seconds: the server's clock cannot be moved."""
        for queue in self.platform.broker.queues:
            for id, _ in self._scheduled(queue, -1):
                self._installation.broker.zincrby(self._keys.key(queue, "scheduled"), -1000 * seconds, id)


def _id(task: TaskHandle | str) -> str:
    return task if isinstance(task, str) else task.task_id
