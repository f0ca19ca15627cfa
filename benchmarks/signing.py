"""Measures what signatures cost per message: CPU time of the sender and of the worker, and bytes in the broker.

    python -m benchmarks.signing [--messages 2000] [--rounds 7]

The same messages are made and read with and without signatures, interleaved. It needs no server.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from celery import Celery
from rich.console import Console
from rich.table import Table

from laneway.engine.engine import Delivery
from laneway.engine.message import encode
from laneway.transport.codec import from_delivery, to_message
from laneway.transport.key_ring import KeyRingFile, create_ring
from laneway.transport.signatures import NO_SIGNATURES, RingSigner, Signer
from laneway.worker.producer import AMQP

QUEUE = "bench"
SIZES = (100, 10_000, 1_000_000)
"""Bytes of an argument."""


def raw_message(size: int) -> dict[str, Any]:
    """A kombu message of a task with an argument of this size."""
    made: Any = AMQP(Celery("bench", set_as_current=False)).as_task_v2(str(uuid4()), "bench.noop", ("x" * size,))
    body = f'[["{"x" * size}"], {{}}, {{"callbacks": null, "errbacks": null, "chain": null, "chord": null}}]'
    content = {"body": body, "content-type": "application/json", "content-encoding": "utf-8"}
    return {**content, "headers": made.headers, "properties": {**made.properties, "delivery_mode": 2}}


def micros(messages: int, call: Callable[[], object]) -> float:
    """CPU time of a call in microseconds."""
    started = time.process_time()
    for _ in range(messages):
        call()
    return (time.process_time() - started) / messages * 1e6


def measure(size: int, messages: int, signer: Signer) -> tuple[float, float]:
    """Microseconds to make a message, and to read it."""
    raw = raw_message(size)
    message = signer.sign(QUEUE, to_message(raw))
    id, record = encode(message)
    delivery = Delivery(QUEUE, id[1:], 1, bytes(8) + record, b"token")
    made = micros(messages, lambda: encode(signer.sign(QUEUE, to_message(raw))))
    return made, micros(messages, lambda: from_delivery(delivery, "1", signer=signer))


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    table = Table("bytes of arguments", "", "unsigned, µs", "signed, µs", "more, µs")
    with tempfile.TemporaryDirectory() as folder:
        create_ring(path := Path(folder) / "keys.json")
        signer = RingSigner(KeyRingFile(path), required=True)
        for size in SIZES:
            count = max(20, options.messages * 100 // max(size, 100))
            rounds = [
                (measure(size, count, NO_SIGNATURES), measure(size, count, signer)) for _ in range(options.rounds)
            ]
            for index, name in enumerate(("send", "receive")):
                plain, signed = (statistics.median(each[which][index] for each in rounds) for which in (0, 1))
                table.add_row(f"{size:,}", name, f"{plain:.1f}", f"{signed:.1f}", f"{signed - plain:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
