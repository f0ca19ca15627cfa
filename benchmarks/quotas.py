"""Measures what a flood by one token does to another token, with and without a quota.

    python -m benchmarks.quotas [--seconds 10] [--connections 16]

One API process, an embedded Valkey and a SQLite file. The token `calm` submits 5 tasks a second: alone, while the token
`bounded` floods the API over all connections (quota: 10 requests a minute), and while the token `free` does so without
a quota. All tasks are delayed, so that nothing runs. It ends with 1 if the flood under a quota makes the p95 of `calm`
more than twice as long and more than 10 ms longer.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
from rich.console import Console
from rich.table import Table

from app.core.settings import ROOT
from laneway.testing.valkey_server import free_port, start_valkey

BIN = Path(sys.executable).parent
PER_SECOND = 5
QUOTAS = {"token:bounded": {"requests": 10}, "token:free": {"requests": 0, "tasks": 0, "bytes": 0}}
TASK: Final[dict[str, Any]] = {"name": "cleanup_old_data_task", "payload": {}, "delay": 3600}
FLOOD: Final[dict[str, Any]] = {"name": "generate_performance_report_task", "payload": {}, "delay": 3600}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="the length of each of the three parts")
    parser.add_argument("--connections", type=int, default=16, help="the connections of the flood")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, platform(Path(folder)) as (url, environment):
        tokens = {name: make_token(name, environment) for name in ("calm", "bounded", "free")}
        calm_times(url, tokens["calm"], seconds=1)  # the first requests build what later ones use
        parts: list[tuple[str, list[float], Counter[int]]] = []
        for flooder in (None, "bounded", "free"):
            with flood(url, flooder and tokens[flooder], given.connections, given.seconds) as answers:
                times = calm_times(url, tokens["calm"], seconds=given.seconds)
            parts.append((flooder or "nobody", times, Counter(answers)))
    return show(parts)


@contextmanager
def platform(folder: Path) -> Generator[tuple[str, dict[str, str]]]:
    """Run Valkey and the API; yields its URL, and its environment."""
    valkey, port = start_valkey(folder), free_port()
    environment = os.environ | {
        "CELERY_BROKER_URL": valkey.url(0),
        "CELERY_RESULT_BACKEND": valkey.url(1),
        "DATA_DIR": str(folder / "data"),
        "DATABASE_URL": "",
        "API_PORT": str(port),
        "AUTHENTICATION": "on",
        "MAX_QUEUE_SIZE": "10000000",
        "MAX_UNREAD_EVENTS": "10000000",
        "LOG_LEVEL": "ERROR",
        "QUOTAS": json.dumps(QUOTAS),
    }
    subprocess.run([BIN / "laneway", "prepare"], cwd=ROOT, env=environment, check=True)  # noqa: S603
    argv = [BIN / "uvicorn", "app.main:app", "--port", str(port), "--no-access-log", "--log-level", "error"]
    api = subprocess.Popen(argv, cwd=ROOT, env=environment)  # noqa: S603
    try:
        wait_until_alive(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}", environment
    finally:
        api.terminate()
        api.wait(30)
        valkey.stop()


def wait_until_alive(url: str) -> None:
    """Wait until the API answers."""
    deadline = time.monotonic() + 120
    while True:
        try:
            httpx2.get(f"{url}/health/live", trust_env=False).raise_for_status()
            return
        except httpx2.HTTPError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def make_token(name: str, environment: dict[str, str]) -> str:
    """Make a token that may submit tasks."""
    argv = [BIN / "laneway", "tokens", "create", name, "--scope", "tasks:submit", "--json"]
    made = subprocess.run(argv, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)  # noqa: S603
    return json.loads(made.stdout)["token"]


def calm_times(url: str, token: str, *, seconds: float) -> list[float]:
    """Submit tasks at a fixed rate; returns the milliseconds from the planned moment of each to its answer."""
    times: list[float] = []
    with client(url, token) as http:
        began = time.perf_counter()
        for number in range(round(seconds * PER_SECOND)):
            planned = began + number / PER_SECOND
            time.sleep(max(0.0, planned - time.perf_counter()))
            http.post("/tasks", json=TASK).raise_for_status()
            times.append((time.perf_counter() - planned) * 1000)
    return times


@contextmanager
def flood(url: str, token: str | None, connections: int, seconds: float) -> Generator[list[int]]:
    """Flood the API from another process meanwhile; the list has the status of each answer at the end."""
    answers: list[int] = []
    if token is None:
        yield answers
        return
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(flood_for, (url, token, connections, 1))  # the quota is used up when the measurement begins
        running = pool.apply_async(flood_for, (url, token, connections, seconds))
        yield answers
        answers += running.get(seconds + 60)


def flood_for(url: str, token: str, connections: int, seconds: float) -> list[int]:
    """Submit as fast as all connections can; returns the statuses."""
    until = time.monotonic() + seconds

    def run(_: int) -> list[int]:
        statuses: list[int] = []
        with client(url, token) as http:
            while time.monotonic() < until:
                statuses.append(http.post("/tasks", json=FLOOD).status_code)
        return statuses

    with ThreadPoolExecutor(connections) as threads:
        return [status for found in threads.map(run, range(connections)) for status in found]


def client(url: str, token: str) -> httpx2.Client:
    """A client with a token."""
    headers = {"Authorization": f"Bearer {token}"}
    return httpx2.Client(base_url=url, headers=headers, trust_env=False, timeout=60, verify=False)


def show(parts: list[tuple[str, list[float], Counter[int]]]) -> int:
    """Print the figures; returns the exit code."""
    table = Table("flood by", "p50 ms", "p95 ms", "max ms", "answers of the flood", box=None)
    p95: dict[str, float] = {}
    for flooder, times, answers in parts:
        quantiles: Any = statistics.quantiles(times, n=20)
        p95[flooder] = quantiles[18]
        statuses = ", ".join(f"{number} × {status}" for status, number in sorted(answers.items()))
        table.add_row(
            flooder, *(f"{each:.1f}" for each in (statistics.median(times), quantiles[18], max(times))), statuses
        )
    Console().print(table)
    alone, bounded = p95["nobody"], p95["bounded"]
    return int(bounded > 2 * alone and bounded > alone + 10)


if __name__ == "__main__":
    sys.exit(main())
