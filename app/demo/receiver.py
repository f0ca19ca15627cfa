"""The receiver in `examples/callbacks`, run for the time of the demo: to the platform it is somebody else's program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Final, NamedTuple

from app.demo.scenario import EXAMPLES, DemoFailed

PROGRAM: Final = EXAMPLES / "callbacks" / "receiver.py"
CHILD: Final = Path(__file__).parents[1] / "child.py"
LISTENING: Final = "listening on "
ANSWERED: Final = re.compile(r"answered (\d{3}) to (\S+) (\S+), signature verified")


class Taken(NamedTuple):
    """A webhook that the receiver verified, and its answer."""

    status: int
    event: str
    webhook_id: str


class Receiver:
    """`url`: where it listens; `said`: what it has written so far, line by line."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.said: list[str] = []

    @property
    def taken(self) -> list[Taken]:
        """The webhooks with a signature that it verified, in the order in which they came."""
        found = [ANSWERED.fullmatch(line) for line in self.said]
        return [Taken(int(one[1]), one[2], one[3]) for one in found if one]


@contextmanager
def running_receiver(secret: str, *troubles: int) -> Generator[Receiver]:
    """It runs, on a port of its choice, and gives these answers first. `secret`: `whsec_…`. Raises DemoFailed."""
    argv = [
        sys.executable,
        "-IS",
        str(CHILD),
        str(os.getpid()),  # it ends with the demo, however that ends
        sys.executable,
        str(PROGRAM),
        "0",
        *map(str, troubles),
    ]
    environment = os.environ | {"RECEIVER_SECRET": secret, "PYTHONIOENCODING": "utf-8"}
    with subprocess.Popen(  # noqa: S603
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=environment,
    ) as process:
        lines = iter(process.stdout or ())
        try:
            first = next(lines, "").strip()
            if not first.startswith(LISTENING):
                raise DemoFailed(f"The receiver of examples/callbacks could not be started: {first}")
            receiver = Receiver(first.removeprefix(LISTENING) + "/hook")
            reader = Thread(target=lambda: receiver.said.extend(line.strip() for line in lines), daemon=True)
            reader.start()
            yield receiver
        finally:
            process.terminate()
