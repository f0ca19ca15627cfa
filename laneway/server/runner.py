"""Runs processes in stages: starts them in order, keeps them alive, and stops them in order.

1. The runner starts the processes of a stage together. When all are ready, it calls the stage's `then`, and continues
   with the next stage.
2. Each process has a supervisor, which restarts it when it dies.
3. On Ctrl-C or SIGTERM the runner stops the processes in the order of their ranks, the broker last, so that no accepted
   task is lost. After a second signal, workers do not finish their tasks; the tasks return to their queues.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from itertools import groupby

from laneway.server.processes import ManagedProcess
from laneway.server.supervisor import Supervisor
from laneway.server.terminal import Terminal

Watch = Callable[[Callable[[Sequence[ManagedProcess]], None]], Coroutine[object, object, None]]


class Stage:
    """Processes that start together, and a function to call when they are ready."""

    def __init__(self, processes: Sequence[ManagedProcess], then: Callable[[], None] | None = None) -> None:
        self.processes, self.then = processes, then


class Runner:
    """Runs stages of processes until a signal comes, or until a process fails at its first start."""

    def __init__(self, stages: Sequence[Stage], terminal: Terminal, *, watch: Watch | None = None) -> None:
        """`watch` runs while the processes run; it gets `restart`."""
        self._stages, self._terminal, self._watch = stages, terminal, watch
        self._supervisors: list[Supervisor] = []

    async def run(self) -> int:
        """Start all, wait for a signal, stop all; returns exit code 0.

        Raises NeverReady, or what a stage's `then` raises, after all processes are stopped.
        """
        self._stop, self._hurry = asyncio.Event(), asyncio.Event()
        self._handle_signals()
        try:
            await self._run_unless_stopped(self._start_all())
            if self._watch and not self._stop.is_set():
                await self._run_unless_stopped(self._watch(self.restart))
            await self._stop.wait()
        finally:
            self._stop.set()
            await self._stop_all()
        return 0

    def restart(self, processes: Sequence[ManagedProcess]) -> None:
        """Restart these processes with new code, start those that are new, and stop those that are no more declared."""
        running = {each.process.name: each for each in self._supervisors if each.process.runs_code}
        for process in processes:
            supervisor = running.pop(process.name, None)
            if supervisor is not None and supervisor.restart(process):
                continue
            added = Supervisor(process, self._terminal, hurry=self._hurry)
            added.first_ready.add_done_callback(self._report_failure)
            self._supervisors.append(added)
        for dropped in running.values():
            dropped.stop_soon()

    def _report_failure(self, first_ready: asyncio.Future[None]) -> None:
        if not first_ready.cancelled() and (error := first_ready.exception()):
            self._terminal.say(str(error))

    async def _start_all(self) -> None:
        began = time.monotonic()
        for stage in self._stages:
            started = [Supervisor(process, self._terminal, hurry=self._hurry) for process in stage.processes]
            self._supervisors += started
            await asyncio.gather(*(supervisor.first_ready for supervisor in started))
            if stage.then:
                await asyncio.to_thread(stage.then)
        self._terminal.say(f"all processes are ready after {time.monotonic() - began:.1f} s; Ctrl-C stops them")
        for process in (supervisor.process for supervisor in self._supervisors if supervisor.process.address):
            self._terminal.say(f"  {process.name}: {process.address}")

    async def _run_unless_stopped(self, work: Coroutine[object, object, None]) -> None:
        task, stop = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            task.result()
        else:
            task.cancel()

    async def _stop_all(self) -> None:
        for _, same_rank in groupby(sorted(self._supervisors, key=_rank), key=_rank):
            await asyncio.gather(*(supervisor.stop() for supervisor in same_rank))

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        if not self._stop.is_set():
            self._terminal.say("stopping")
            self._stop.set()
        elif not self._hurry.is_set():
            self._terminal.say("stopping at once")
            self._hurry.set()


def _rank(supervisor: Supervisor) -> int:
    return supervisor.process.stopping.rank
