"""Keeps one process alive: starts it, reports when it is ready, restarts it when it dies, and stops it gracefully."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass, replace

from laneway.server.child_process import ChildProcess, Tail, describe_exit
from laneway.server.errors import NeverReady
from laneway.server.processes import ManagedProcess, StopPlan
from laneway.server.terminal import Terminal

LAST_SECONDS = 5
"""Seconds between `StopPlan.before_kill` and SIGKILL."""

RELOAD_SECONDS = 10
"""Seconds that running tasks get to finish before a restart with new code; then they return to their queues."""

FIRST_TRIES = 3
"""A process that dies this often before it was ever ready is not restarted."""

PROBE_PAUSE = 0.2
"""Seconds between two probes."""


@dataclass
class Backoff:
    """Seconds to wait before a restart: doubled after each death, reset after a process lived long enough."""

    first: float = 1
    longest: float = 30
    forgotten_after: float = 60
    _next: float = 0

    def after(self, alive_seconds: float) -> float:
        """The delay for a process that lived for this many seconds."""
        if self._next == 0 or alive_seconds >= self.forgotten_after:
            self._next = self.first
        delay = self._next
        self._next = min(self.longest, delay * 2)
        return delay


class Supervisor:
    """Runs one process until `stop`. `first_ready` completes when it is ready, or fails if it never becomes ready.

    `hurry`: set at the second Ctrl-C; the process then gets less time to stop.
    """

    def __init__(
        self, process: ManagedProcess, terminal: Terminal, *, hurry: asyncio.Event, backoff: Backoff | None = None
    ) -> None:
        self.process = process
        self.first_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._terminal, self._hurry, self._backoff = terminal, hurry, backoff or Backoff()
        self._tail = Tail(lambda line: terminal.show_output(process.name, line))
        self._stop, self._restart = asyncio.Event(), asyncio.Event()
        self._run = asyncio.create_task(self._keep_alive())
        self._run.add_done_callback(self._pass_on_failure)

    async def stop(self) -> None:
        """Stop the process by its `StopPlan`, and wait until it has ended."""
        self.stop_soon()
        await self._run

    def stop_soon(self) -> None:
        """Begin to stop the process."""
        self._stop.set()

    def restart(self, process: ManagedProcess) -> bool:
        """Stop the process gracefully, and start it by this description, which runs the newest code.

        Returns False if the process is not kept alive any more.
        """
        if self._run.done():
            return False
        self.process = process
        self._restart.set()
        return True

    def _pass_on_failure(self, run: asyncio.Task[None]) -> None:
        """If the supervisor itself fails, fail `first_ready`. Otherwise the process would seem to start for ever."""
        if not run.cancelled() and (error := run.exception()) and not self.first_ready.done():
            self.first_ready.set_exception(error)

    async def _keep_alive(self) -> None:
        clock = asyncio.get_running_loop().time
        deaths = 0
        while not self._stop.is_set():
            self._restart.clear()  # what starts now has the newest code
            child, started = await self._start(), clock()
            await self._watch(child)
            if self._stop.is_set():
                await self._stop_child(child, self.process.stopping)
                break
            if self._restart.is_set():
                await self._stop_child(child, _hastened(self.process.stopping))
                deaths = 0
                continue
            end = describe_exit(await child.wait())
            await child.kill()  # kills the children that it left, if any
            if self.process.on_death is not None:
                await asyncio.to_thread(self.process.on_death, end)
            deaths += 1
            if not self.first_ready.done() and deaths >= FIRST_TRIES:
                self._give_up(f"{end}, {deaths} times, before it was ready")
                break
            delay = self._backoff.after(clock() - started)
            self._terminal.say(f"{self.process.name} {end}; it starts again in {delay:g} s")
            await _wait_for_any(self._stop, self._restart, seconds=delay)

    async def _start(self) -> ChildProcess:
        port = self.process.probe_port
        return await ChildProcess.start(
            self.process.argv, show=self._tail, environment={} if port is None else {"PROBE_PORT": str(port)}
        )

    async def _watch(self, child: ChildProcess) -> None:
        """Wait until the child ends, or until `stop` or `restart` is called; report when it is ready."""
        waits = (self._stop.wait(), self._restart.wait(), child.wait())
        tasks = [asyncio.create_task(wait) for wait in waits]
        ready = asyncio.create_task(self._report_ready(child))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, ready):
                task.cancel()

    async def _report_ready(self, child: ChildProcess) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        while not await self.process.ready(child.started_at):
            if not self.first_ready.done() and clock() - began > self.process.ready_seconds:
                self._give_up(f"was not ready after {self.process.ready_seconds:g} s")
                return
            await asyncio.sleep(PROBE_PAUSE)
        address = f": {self.process.address}" if self.process.address else ""
        address += f" (probes at port {self.process.probe_port})" if self.process.probe_port else ""
        self._terminal.say(f"{self.process.name} is ready{address}")
        if not self.first_ready.done():
            self.first_ready.set_result(None)

    def _give_up(self, reason: str) -> None:
        if not self.first_ready.done():
            self.first_ready.set_exception(NeverReady(self.process.name, reason, list(self._tail.lines)))

    async def _stop_child(self, child: ChildProcess, plan: StopPlan) -> None:
        if plan.seconds > plan.hurried_seconds and plan.before_kill:
            self._terminal.say(
                f"stopping {self.process.name}: it finishes its running tasks, for up to {plan.seconds:g} s "
                "(press Ctrl-C again to stop at once)"
            )
        child.signal(signal.SIGTERM)
        if not await self._ends_by_plan(child, plan):
            self._terminal.say(f"{self.process.name} did not end in time and is killed")
        await child.kill()
        self._terminal.say(f"{self.process.name} stopped")

    async def _ends_by_plan(self, child: ChildProcess, plan: StopPlan) -> bool:
        """Return whether the child ends without SIGKILL."""
        hurry = self._hurry if plan.hurried_seconds < plan.seconds else None
        if await child.ends_within(plan.seconds, unless=hurry):
            return True
        if self._hurry.is_set() and await child.ends_within(plan.hurried_seconds):
            return True
        if plan.before_kill is None:
            return False
        child.signal(plan.before_kill)
        return await child.ends_within(LAST_SECONDS)


def _hastened(plan: StopPlan) -> StopPlan:
    """The plan for a restart with new code."""
    return replace(plan, seconds=min(plan.seconds, RELOAD_SECONDS))


async def _wait_for_any(*events: asyncio.Event, seconds: float) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
