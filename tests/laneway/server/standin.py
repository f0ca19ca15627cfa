"""A platform of stand-in parts under the real runner: `python standin.py FOLDER [deaf]`.

Each part writes what happens to it into FOLDER/events, with its process id; `deaf` makes the worker ignore SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import datetime
from pathlib import Path

from laneway.server.processes import Part, Stopping
from laneway.server.runner import Runner, Stage
from laneway.server.terminal import Terminal

FOLDER = Path(sys.argv[1])
DEAF = "deaf" in sys.argv

CODE = """
import os, signal, sys
name, folder, deaf = sys.argv[1:]
def note(what):
    with open(folder + "/events", "a") as file:
        file.write(f"{name} {what} {os.getpid()}\\n")
def stop(number, frame):
    note("stopped")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
if deaf == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
note("started")
print("hello from " + name, flush=True)
while True:
    signal.pause()
"""


def note(text: str) -> None:
    with (FOLDER / "events").open("a") as file:
        file.write(f"{text}\n")


def standin(name: str, stopping: Stopping) -> Part:
    async def ready(_since: datetime) -> bool:
        events = FOLDER / "events"
        return events.exists() and f"{name} started" in events.read_text()

    deaf = "deaf" if DEAF and name == "worker" else "hears"
    return Part(name, (sys.executable, "-c", CODE, name, str(FOLDER), deaf), ready, stopping, f"at://{name}")


STAGES = [
    Stage([standin("broker", Stopping(5, 30, 30))], lambda: note("prepared")),
    Stage(
        [
            standin("worker", Stopping(4, 60, 0, signal.SIGQUIT)),
            standin("api", Stopping(1)),
            standin("beat", Stopping(2)),
        ]
    ),
]

if __name__ == "__main__":
    sys.exit(asyncio.run(Runner(STAGES, Terminal()).run()))
