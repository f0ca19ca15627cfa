"""A platform of stand-in processes under the real runner: `python standin.py FOLDER [deaf]`.

Each process writes its events and its process id to FOLDER/events. With `deaf` the worker ignores SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import datetime
from pathlib import Path

from laneway.server.processes import ManagedProcess, StopPlan
from laneway.server.runner import Runner, Stage
from laneway.server.terminal import Terminal

FOLDER = Path(sys.argv[1])
DEAF = "deaf" in sys.argv

CODE = """
import os, signal, sys
name, folder, deaf = sys.argv[1:]
def record(what):
    with open(folder + "/events", "a") as file:
        file.write(f"{name} {what} {os.getpid()}\\n")
def stop(number, frame):
    record("stopped")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
if deaf == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
record("started")
print("hello from " + name, flush=True)
while True:
    signal.pause()
"""


def record(text: str) -> None:
    with (FOLDER / "events").open("a") as file:
        file.write(f"{text}\n")


def standin(name: str, stopping: StopPlan) -> ManagedProcess:
    async def ready(_since: datetime) -> bool:
        events = FOLDER / "events"
        return events.exists() and f"{name} started" in events.read_text()

    deaf = "deaf" if DEAF and name == "worker" else "hears"
    return ManagedProcess(name, (sys.executable, "-c", CODE, name, str(FOLDER), deaf), ready, stopping, f"at://{name}")


STAGES = [
    Stage([standin("broker", StopPlan(5, 30, 30))], lambda: record("prepared")),
    Stage(
        [
            standin("worker", StopPlan(4, 60, 0, signal.SIGQUIT)),
            standin("api", StopPlan(1)),
            standin("beat", StopPlan(2)),
        ]
    ),
]

if __name__ == "__main__":
    sys.exit(asyncio.run(Runner(STAGES, Terminal()).run()))
