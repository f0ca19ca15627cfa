"""Keeps one part alive: starts it, says when it is ready, starts it again when it dies, stops it in order."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass

from laneway.server.child_process import Process, Tail, how_it_ended
from laneway.server.errors import NeverReady
from laneway.server.processes import Part
from laneway.server.terminal import Terminal

LAST_SECONDS = 5
"""Between the signal before SIGKILL and SIGKILL."""

FIRST_TRIES = 3
"""A part that dies so often before it was ever ready is not started again."""

PROBE_PAUSE = 0.2


@dataclass
class Backoff:
    """How long to wait before a part that died is started again: doubled each time, forgotten when it lived."""

    first: float = 1
    longest: float = 30
    forgotten_after: float = 60
    _next: float = 0

    def after(self, alive_seconds: float) -> float:
        """Seconds to wait, when it had lived for so many."""
        if self._next == 0 or alive_seconds >= self.forgotten_after:
            self._next = self.first
        delay = self._next
        self._next = min(self.longest, delay * 2)
        return delay


class Supervisor:
    """One part, from first start to last end. `run` it as a task; `first_ready` tells how the first start went."""

    def __init__(self, part: Part, terminal: Terminal, *, hurry: asyncio.Event, backoff: Backoff | None = None) -> None:
        self.part = part
        self.first_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._terminal, self._hurry, self._backoff = terminal, hurry, backoff or Backoff()
        self._tail = Tail(lambda line: terminal.part(part.name, line))
        self._stop = asyncio.Event()
        self._run = asyncio.create_task(self._keep_alive())
        self._run.add_done_callback(self._pass_on)

    async def stop(self) -> None:
        """End it, as its part says, and wait until it is gone."""
        self._stop.set()
        await self._run

    def _pass_on(self, run: asyncio.Task[None]) -> None:
        """A fault of our own must not look like a part that is still starting."""
        if not run.cancelled() and (fault := run.exception()) and not self.first_ready.done():
            self.first_ready.set_exception(fault)

    async def _keep_alive(self) -> None:
        clock = asyncio.get_running_loop().time
        deaths = 0
        while not self._stop.is_set():
            process, born = await Process.start(self.part.argv, show=self._tail), clock()
            await self._watch(process)
            if self._stop.is_set():
                await self._end(process)
                break
            how = how_it_ended(await process.wait())
            await process.kill()  # its children, if it left any
            deaths += 1
            if not self.first_ready.done() and deaths >= FIRST_TRIES:
                self._give_up(f"{how}, {deaths} times, before it was ready")
                break
            delay = self._backoff.after(clock() - born)
            self._terminal.say(f"{self.part.name} {how}; it starts again in {delay:g} s")
            await _set_within(self._stop, delay)

    async def _watch(self, process: Process) -> None:
        """Until it ends or is to stop; says when it is ready."""
        tasks = [asyncio.create_task(self._stop.wait()), asyncio.create_task(process.wait())]
        ready = asyncio.create_task(self._announce(process))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, ready):
                task.cancel()

    async def _announce(self, process: Process) -> None:
        clock = asyncio.get_running_loop().time
        begun = clock()
        while not await self.part.ready(process.started_at):
            if not self.first_ready.done() and clock() - begun > self.part.ready_seconds:
                self._give_up(f"was not ready after {self.part.ready_seconds:g} s")
                return
            await asyncio.sleep(PROBE_PAUSE)
        where = f": {self.part.address}" if self.part.address else ""
        self._terminal.say(f"{self.part.name} is ready{where}")
        if not self.first_ready.done():
            self.first_ready.set_result(None)

    def _give_up(self, reason: str) -> None:
        if not self.first_ready.done():
            self.first_ready.set_exception(NeverReady(self.part.name, reason, list(self._tail.lines)))

    async def _end(self, process: Process) -> None:
        plan = self.part.stopping
        if plan.seconds > plan.hurried_seconds and plan.before_kill:
            self._terminal.say(
                f"stopping {self.part.name}: it finishes its running tasks, for up to {plan.seconds:g} s "
                "(Ctrl-C again: at once)"
            )
        process.signal(signal.SIGTERM)
        if not await self._obeys(process):
            self._terminal.say(f"{self.part.name} did not end in time and is killed")
        await process.kill()
        self._terminal.say(f"{self.part.name} stopped")

    async def _obeys(self, process: Process) -> bool:
        plan = self.part.stopping
        hurry = self._hurry if plan.hurried_seconds < plan.seconds else None
        if await process.ends_within(plan.seconds, unless=hurry):
            return True
        if self._hurry.is_set() and await process.ends_within(plan.hurried_seconds):
            return True
        if plan.before_kill is None:
            return False
        process.signal(plan.before_kill)
        return await process.ends_within(LAST_SECONDS)


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
