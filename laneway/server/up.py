"""`laneway up` and `laneway down`: the whole platform in one terminal.

Before it starts anything, `up` checks for invalid settings, a second `up`, taken ports and unreachable servers. It
reports each problem in one sentence. Then the runner starts the processes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress

import httpx2

from laneway.platform.access.own_credential import own_credential
from laneway.platform.access.scopes import Scope
from laneway.platform.application import application
from laneway.platform.errors import ConfigError, PlatformError
from laneway.platform.settings import Settings, settings_warnings
from laneway.platform.signing_check import check_signing
from laneway.server import flower_login, lock
from laneway.server.checks import check_ports, check_probe_ports
from laneway.server.prepare import prepare, wait_for_broker, wait_for_database
from laneway.server.probes import web_address
from laneway.server.processes import broker, processes
from laneway.server.reload import CodeWatcher
from laneway.server.runner import Runner, Stage
from laneway.server.terminal import Terminal

REACH_SECONDS = 5
"""How long `up` waits for a server that the settings name."""

DOWN_SECONDS = 180
"""How long `down` waits. It is more than all processes together may take to stop."""


def up(settings: Settings, *, reload: bool = False) -> int:
    """Run the platform until Ctrl-C. Exit code 0: stopped on request, 1: could not start, 2: invalid settings.

    `reload`: a change of the project's code restarts the processes that run it.
    """
    terminal = Terminal()
    try:
        with lock.hold(settings.storage.folder):
            stages = _checked_stages(settings, terminal)
            watch = CodeWatcher(settings, terminal).run if reload else None
            return asyncio.run(Runner(stages, terminal, watch=watch).run())
    except PlatformError as error:
        terminal.fail(str(error))
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:  # before the first process was started
        return 0


def down(settings: Settings) -> int:
    """Stop the `up` that runs on the same data folder, and wait until it has ended. Returns the exit code."""
    folder, terminal = settings.storage.folder, Terminal()
    if not lock.is_held(folder):
        terminal.say(f"nothing runs on {folder}")
        return 0
    pid = lock.holder(folder)
    if pid is None:
        terminal.fail(f"A process that did not write its id holds {folder / lock.FILE}: stop that process yourself.")
        return 1
    terminal.say(f"stopping process {pid}; its workers finish their running tasks first")
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


def _checked_stages(settings: Settings, terminal: Terminal) -> list[Stage]:
    """The stages to run. Raises a PlatformError for a problem that is known before the start."""
    for warning in settings_warnings(settings):
        terminal.say(f"warning: {warning}")
    check_signing(settings)
    application().celery_app()  # a mistake in a task is told before anything starts
    flower_login.login(settings)  # generates the password now, so that the file that `login_hint` names exists
    os.environ.update(application().development_environment(settings))  # the processes inherit it
    embedded_broker = broker(settings)
    check_ports(settings)
    others = processes(settings)
    check_probe_ports(settings, [process.probe_port for process in others if process.probe_port])
    if embedded_broker is None:
        wait_for_broker(settings, wait_seconds=REACH_SECONDS)
    wait_for_database(settings, wait_seconds=REACH_SECONDS)

    def migrate_tables() -> None:
        own_broker = embedded_broker is not None  # its data is in our folder, whatever became of the database
        prepare(settings, wait_seconds=REACH_SECONDS, adopt_broker=own_broker)
        terminal.say("database is ready")

    def say_degraded() -> None:
        for problem in degraded_parts(settings):
            terminal.say(f"not everything works: {problem}")

    return [
        Stage([embedded_broker] if embedded_broker else [], migrate_tables),
        Stage(others, say_degraded),
    ]


def degraded_parts(settings: Settings) -> list[str]:
    """What the running platform says about its parts that do not work, such as a workflow that is not valid."""
    try:
        address = web_address(settings.api.host, settings.api.port)
        with own_credential(settings, "up", Scope.READ) as headers:
            ready = f"{address}/health/ready"
            answer = httpx2.get(ready, headers=headers, trust_env=False, timeout=REACH_SECONDS).json()
        return [f"{each['part']}: {each['problem']}" for each in answer["degraded"]]
    except (
        PlatformError,
        httpx2.HTTPError,
        ValueError,
        LookupError,
        TypeError,
    ):  # the process is ready, and an answer is no condition
        return []
