"""Runs the receiver of `examples/outbound_webhooks` during the demo, as an external program."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from threading import Thread
from typing import Final, NamedTuple

from app.demo.scenario import EXAMPLES, DemoFailed
from laneway.server import child

PROGRAM: Final = EXAMPLES / "outbound_webhooks" / "receiver.py"
LISTENING: Final = "listening on "
VERIFIED: Final = re.compile(r"answered (\d{3}) to (\S+) (\S+), signature verified")


class ReceivedWebhook(NamedTuple):
    """A webhook with a valid signature, and the status that it was answered with."""

    status: int
    event: str
    webhook_id: str


class Receiver:
    """A running receiver. `url` is its address; `lines` are the lines of its output so far."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.lines: list[str] = []

    @property
    def received(self) -> list[ReceivedWebhook]:
        """The webhooks with a valid signature, in the order of their arrival."""
        matches = [VERIFIED.fullmatch(line) for line in self.lines]
        return [ReceivedWebhook(int(match[1]), match[2], match[3]) for match in matches if match]


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running_receiver(secret: str, *first_statuses: int, port: int = 0) -> Generator[Receiver]:
    """Run the receiver on this port, or a free one; it answers its first webhooks with these statuses.

    `secret` has the form `whsec_…`. Raises DemoFailed if the receiver cannot be started.
    """
    argv = [
        sys.executable,
        "-IS",
        str(child.__file__),  # The receiver ends with the demo, however that ends.
        str(os.getpid()),
        sys.executable,
        str(PROGRAM),
        str(port),
        *map(str, first_statuses),
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
                raise DemoFailed(f"The receiver of examples/outbound_webhooks could not be started: {first}")
            receiver = Receiver(first.removeprefix(LISTENING) + "/hook")
            reader = Thread(target=lambda: receiver.lines.extend(line.strip() for line in lines), daemon=True)
            reader.start()
            yield receiver
        finally:
            process.terminate()
