"""`laneway up`: the whole platform in one terminal, started in order, kept alive, stopped in order.

1. Refuses what cannot work, before anything is started: settings, a second `up`, taken ports, servers out of reach.
2. Starts the broker, brings the database up to date, then starts the other parts.
3. Starts a part again that dies, each time a little later.
4. On Ctrl-C or SIGTERM stops the parts in the order of their ranks, the broker last, so that nothing accepted is lost.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import groupby

from app.core.config import Settings
from app.core.errors import ConfigError, PlatformError
from app.dev import flower_login, lock
from app.dev.checks import check_ports
from app.dev.parts import Part, broker, parts
from app.dev.prepare import prepare, wait_for_broker, wait_for_database
from app.dev.supervisor import Supervisor
from app.dev.terminal import Terminal

REACH_SECONDS = 5
"""How long `up` waits for a server that the settings name."""

DOWN_SECONDS = 180
"""How long `down` waits; more than all parts may take together."""


def up(settings: Settings) -> int:
    """Run the platform until Ctrl-C; the exit code: 0 stopped as asked, 1 could not start, 2 wrong settings."""
    terminal = Terminal()
    try:
        with lock.held(settings.storage.folder):
            stages = _checked_stages(settings, terminal)
            return asyncio.run(Runner(stages, terminal).run())
    except PlatformError as error:
        terminal.fail(str(error))
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:  # before the first part was started
        return 0


def down(settings: Settings) -> int:
    """Stop the `up` that runs on the same data folder, and wait for its end; the exit code."""
    folder, terminal = settings.storage.folder, Terminal()
    if not lock.is_held(folder):
        terminal.say(f"nothing runs on {folder}")
        return 0
    pid = lock.holder(folder)
    if pid is None:
        terminal.fail(f"{folder / lock.FILE} is held by a process that did not write its id: stop it by hand.")
        return 1
    terminal.say(f"stopping process {pid}; workers finish their running tasks first")
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_SECONDS
    while lock.is_held(folder):
        if time.monotonic() > deadline:
            terminal.fail(f"Process {pid} still runs after {DOWN_SECONDS} s.")
            return 1
        time.sleep(0.1)
    terminal.say("stopped")
    return 0


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


def _checked_stages(settings: Settings, terminal: Terminal) -> list[Stage]:
    """The platform's stages, if nothing known stands in the way."""
    flower_login.login(settings)  # made now, so that what is shown can be found
    server = broker(settings)
    check_ports(settings)
    if server is None:
        wait_for_broker(settings, wait_seconds=REACH_SECONDS)
    wait_for_database(settings, wait_seconds=REACH_SECONDS)

    def ready_tables() -> None:
        prepare(settings, wait_seconds=REACH_SECONDS)
        terminal.say("database is ready")

    return [Stage([server] if server else [], ready_tables), Stage(parts(settings))]
