"""Runs parts in stages: started in order, kept alive, and stopped in order.

1. Starts a stage's parts together, and does the stage's work when all are ready; then the next stage.
2. Each part has a supervisor, which starts it again when it dies.
3. On Ctrl-C or SIGTERM stops the parts in the order of their ranks, the broker last, so that nothing accepted is lost.
   The signal again: workers do not finish their tasks, which go back to their queues.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from itertools import groupby

from laneway.server.processes import Part
from laneway.server.supervisor import Supervisor
from laneway.server.terminal import Terminal


class Stage:
    """Parts that start together, and what must be done when they are ready."""

    def __init__(self, parts: Sequence[Part], then: Callable[[], None] | None = None) -> None:
        self.parts, self.then = parts, then


class Runner:
    """Runs stages of parts until a signal, or until a part fails at its first start."""

    def __init__(self, stages: Sequence[Stage], terminal: Terminal) -> None:
        self._stages, self._terminal = stages, terminal
        self._running: list[Supervisor] = []

    async def run(self) -> int:
        """Start, wait for a signal, stop. Raises NeverReady, or what a stage's work raises, with all parts stopped."""
        self._stop, self._hurry = asyncio.Event(), asyncio.Event()
        self._listen()
        try:
            await self._unless_stopped(self._start())
            await self._stop.wait()
        finally:
            self._stop.set()
            await self._stop_all()
        return 0

    async def _start(self) -> None:
        begun = time.monotonic()
        for stage in self._stages:
            started = [Supervisor(part, self._terminal, hurry=self._hurry) for part in stage.parts]
            self._running += started
            await asyncio.gather(*(one.first_ready for one in started))
            if stage.then:
                await asyncio.to_thread(stage.then)
        self._terminal.say(f"everything runs, after {time.monotonic() - begun:.1f} s; Ctrl-C stops it")
        for part in (one.part for one in self._running if one.part.address):
            self._terminal.say(f"  {part.name}: {part.address}")

    async def _unless_stopped(self, work: Coroutine[object, object, None]) -> None:
        task, stop = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            task.result()
        else:
            task.cancel()

    async def _stop_all(self) -> None:
        for _, same_rank in groupby(sorted(self._running, key=_rank), key=_rank):
            await asyncio.gather(*(one.stop() for one in same_rank))

    def _listen(self) -> None:
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


def _rank(one: Supervisor) -> int:
    return one.part.stopping.rank
