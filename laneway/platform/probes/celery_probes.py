"""Probes of a Celery worker and of Beat, whatever their names are.

A process lives while its main loop turns. A worker that connects to a broker that is away, or that stops, is not in its
loop, and lives: a restart would help nobody. A worker is ready while it fetches from a queue, and database and broker
answer. Beat is ready while it leads or waits until it may, and database and broker
answer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, cast

from celery import Celery, bootsteps
from celery.concurrency.solo import TaskPool as SoloPool  # pyright: ignore[reportMissingTypeStubs]
from celery.signals import beat_init, worker_init, worker_shutting_down

from laneway.platform.current import current_platform
from laneway.platform.errors import ConfigError
from laneway.platform.logging import logger
from laneway.platform.operations.bounded_calls import RecentCall
from laneway.platform.probes.main_loop import MainLoop
from laneway.platform.probes.server import ProbeServer
from laneway.platform.schedules.scheduler import BeatScheduler
from laneway.platform.settings import Settings

log = logger(__name__)

TURN_SECONDS: Final = 1.0
"""Seconds between two notes of a worker's event loop that it turns."""
NO_BROKER: Final = "It has no connection to the broker, and connects again."
NO_QUEUE: Final = "It fetches from no queue."
STOPS: Final = "It stops."


class Process(Protocol):
    """What probes ask of a process."""

    def live(self) -> Sequence[str]:
        """Why it has to be started again; nothing: it lives."""
        ...

    def ready(self) -> Sequence[str]:
        """Why it does not work now; nothing: it is ready."""
        ...


class WorkerProbe:
    """How the worker of this process is."""

    def __init__(self) -> None:
        self.loop = MainLoop()
        self.consumer: Any = None

    def live(self) -> Sequence[str]:
        """Its main loop hangs. With the solo pool the loop itself runs the tasks, so it may take long for a turn."""
        stall = self.loop.stall
        runs_tasks = self.consumer is not None and isinstance(self.consumer.pool, SoloPool)
        return [stall] if stall and not runs_tasks else []

    def ready(self) -> Sequence[str]:
        """It does not fetch, or a server does not answer."""
        problem = self.loop.waits or self.loop.stall
        if problem:
            return [problem]
        if not self.consumer.task_consumer.queues:
            return [NO_QUEUE]
        return current_platform().readiness.server_problems()


class BeatProbe:
    """How the Beat of this process is."""

    def __init__(self, scheduler: Any) -> None:
        self.loop, self._scheduler = MainLoop(), scheduler
        self._tick = scheduler.tick
        scheduler.tick = self._note_tick

    def live(self) -> Sequence[str]:
        """It does not tick."""
        return [self.loop.stall] if self.loop.stall else []

    def ready(self) -> Sequence[str]:
        """It does not tick, or its scheduler cannot work."""
        own = self._scheduler.problem if isinstance(self._scheduler, BeatScheduler) else None
        problem = self.loop.waits or self.loop.stall or own
        return [problem] if problem else []

    def _note_tick(self, *arguments: Any, **options: Any) -> Any:
        self.loop.begin_turn()
        seconds = self._tick(*arguments, **options)
        self.loop.turn(sleeps=seconds or 0.0)
        return seconds


_worker = WorkerProbe()
"""That of this process. Celery makes the steps of its consumer itself."""
_servers: list[ProbeServer] = []
"""The server of this process. A Beat within a worker (`celery worker -B`) inherits it, and the worker answers."""


class LoopStep(bootsteps.StartStopStep):
    """Notes that a worker's main loop turns, from each connection to its end."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        _worker.consumer = consumer
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        """Called before the loop begins."""
        _worker.loop.turn()
        if consumer.hub is not None:
            self._timer = consumer.hub.call_repeatedly(TURN_SECONDS, _worker.loop.turn)
            return
        perform = cast("Callable[[Any], None]", type(consumer).perform_pending_operations)

        def perform_and_note() -> None:
            _worker.loop.turn()
            perform(consumer)

        consumer.perform_pending_operations = perform_and_note

    def stop(self, consumer: Any) -> None:
        """Called when the connection is lost, and at the end."""
        del consumer
        if self._timer is not None:
            self._timer.cancel()
        _worker.loop.leave(NO_BROKER)


def add_probes(app: Celery, settings: Settings) -> None:
    """Let the workers and the Beat of this app answer probes."""
    app.steps["consumer"].add(LoopStep)

    def begin_worker(sender: Any, **_: Any) -> None:
        if sender.app is app:
            _answer(_worker, settings)

    def begin_beat(sender: Any, **_: Any) -> None:
        if sender.app is app:
            _answer(BeatProbe(sender.scheduler), settings)

    worker_init.connect(begin_worker, weak=False, dispatch_uid="laneway.probes")
    beat_init.connect(begin_beat, weak=False, dispatch_uid="laneway.probes")


@worker_shutting_down.connect
def _note_end(**_: Any) -> None:
    _worker.loop.leave(STOPS, for_good=True)


def _answer(process: Process, settings: Settings) -> None:
    """Answer probes from now on. Ends the process with one sentence if that is not possible."""
    port = settings.probes.port
    if port is None or _servers:
        return
    ready = RecentCall(process.ready)
    try:
        server = ProbeServer(settings.probes.host, port, live=process.live, ready=ready.result)
    except ConfigError as error:
        sys.exit(str(error))
    _servers.append(server)
    server.start()
    log.info("answers probes", host=settings.probes.host, port=port)
