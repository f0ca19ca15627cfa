"""The benchmark's server, and the server's own counters."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from benchmarks.throughput.contestants import BROKER_DB, RESULT_DB
from laneway.server.valkey import find_binary, server_pid

START_SECONDS = 10


@dataclass(frozen=True, slots=True)
class ServerCounters:
    """The server's counters since its start. `commands` includes those inside scripts."""

    commands: int
    reads: int
    bytes_in: int
    bytes_out: int
    cpu: float
    """CPU seconds of the server's main thread."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one job costs the server. A read takes all that one client has sent: about one round trip."""

    commands: float
    reads: float
    cpu_us: float
    bytes_in: float
    bytes_out: float


class Server:
    """A server at `url` (without a database) that only the benchmark uses."""

    def __init__(self, url: str) -> None:
        self.url = url
        client: Any = redis.Redis  # redis-py types its functions in part
        self._broker = client.from_url(f"{url}/{BROKER_DB}")
        self._results = client.from_url(f"{url}/{RESULT_DB}")
        self._own_calls = 0

    def empty(self) -> None:
        """Delete everything."""
        self._own_calls += 1
        self._broker.flushall()

    def results(self) -> int:
        """The number of stored results, which counts finished jobs in the same way for every contestant."""
        self._own_calls += 1
        return self._results.dbsize()

    def memory(self) -> int:
        """The bytes that the server uses."""
        return int(self.info()["used_memory"])

    def info(self) -> dict[str, Any]:
        """The server's INFO."""
        self._own_calls += 1
        return self._broker.info()

    def counters(self) -> ServerCounters:
        """The counters as they are now, without the benchmark's own commands."""
        info = self.info()
        cpu = info.get("used_cpu_user_main_thread", info["used_cpu_user"])
        cpu += info.get("used_cpu_sys_main_thread", info["used_cpu_sys"])
        return ServerCounters(
            commands=int(info["total_commands_processed"]) - self._own_calls,
            reads=int(info["total_reads_processed"]) - self._own_calls,
            bytes_in=int(info["total_net_input_bytes"]),
            bytes_out=int(info["total_net_output_bytes"]),
            cpu=float(cpu),
        )

    def cost(self, before: ServerCounters, jobs: int) -> Cost:
        """The cost of one of these jobs since `before`."""
        after = self.counters()
        return Cost(
            commands=(after.commands - before.commands) / jobs,
            reads=(after.reads - before.reads) / jobs,
            cpu_us=(after.cpu - before.cpu) / jobs * 1e6,
            bytes_in=(after.bytes_in - before.bytes_in) / jobs,
            bytes_out=(after.bytes_out - before.bytes_out) / jobs,
        )

    def close(self) -> None:
        """Close the benchmark's own connections."""
        self._broker.close()
        self._results.close()


@contextmanager
def own_server(*, append_only: bool) -> Generator[Server]:
    """Run a Valkey or Redis on a free loopback port until the end of the block; `append_only` turns persistence on."""
    folder = Path(tempfile.mkdtemp(prefix="laneway-bench-"))
    port = _free_port()
    options = {"bind": "127.0.0.1", "port": str(port), "dir": str(folder), "save": "", "databases": "2"}
    options |= {"appendonly": "yes", "appendfsync": "everysec"} if append_only else {"appendonly": "no"}
    argv = [str(find_binary()), *(word for name, value in options.items() for word in (f"--{name}", value))]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)  # noqa: S603 - the program is find_binary's
    try:
        deadline = time.monotonic() + START_SECONDS
        while server_pid("127.0.0.1", port) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("The benchmark's server did not start.")
            time.sleep(0.02)
        server = Server(f"redis://127.0.0.1:{port}")
        yield server
        server.close()
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
