"""Measures the path of the platform beside others in one run: `make bench-platform`.

    python -m benchmarks.peers.platform [--systems "laneway SQLite,by hand"] [--seconds 6] [--rounds 2] [--json FILE]

20 connections submit tasks to one API process for some seconds, while no worker runs. Then one worker with 2 processes
drains them. procrastinate and graphile-worker have no HTTP API: 20 callers of one process enqueue. Only the ratios
within one run count.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from rich.console import Console

from benchmarks.peers import wrk
from benchmarks.peers.environment import DRIVERS, HERE, ROOT, RUNTIMES, NotFound
from benchmarks.peers.group import Groups, PeerFailed, call, running, stop_at_signals
from benchmarks.peers.libraries import LIBRARIES, OURS
from benchmarks.peers.results import Results, number, ratios_table
from benchmarks.peers.stores import NoPostgres, Stores, stores
from benchmarks.peers.systems import SYSTEMS, System
from benchmarks.peers.workloads import FROM, TO, rate, sample
from benchmarks.throughput.report import machine
from laneway.server.errors import NoValkeyBinary
from laneway.testing.valkey_server import free_port

FILE = ROOT / "build" / "bench-platform.json"
UNITS = {"accept": "/s", "p50": "ms", "p99": "ms", "CPU": "µs a submission", "drain": "/s", "load": "% of a core"}
COMPARED = ("accept", "p50", "p99", "CPU", "drain")
WITHOUT_HTTP = ("procrastinate", "graphile-worker")
BODY = json.dumps({"name": "bench_nothing_task", "payload": {"data": "x" * 100}})
CONNECTIONS, START_SECONDS, POLL_SECONDS = 20, 90, 0.1


def main(argv: list[str] | None = None) -> int:
    """Measure, print the tables, and write the JSON file; returns the exit code."""
    options = parse(argv)
    stop_at_signals()
    results = Results()
    try:
        with stores() as servers:
            about: dict[str, Any] = machine(servers.redis.info())
            for round_number in range(1, options.rounds + 1):
                for row in options.systems if round_number % 2 else options.systems[::-1]:
                    _measure(servers, row, round_number, options, results)
    except NoValkeyBinary as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    about |= {"rounds": options.rounds, "seconds": options.seconds, "load by": options.load or "load.py"}
    show(results, about | {"load_at_the_end": round(os.getloadavg()[0], 2)}, options)
    return 0


def _measure(servers: Stores, row: str, round_number: int, options: argparse.Namespace, results: Results) -> None:
    where = f"round {round_number} of {options.rounds}  {row:20}"
    try:
        figures = without_http(servers, row, options) if row in WITHOUT_HTTP else served(servers, row, options)
        for name, value in figures:
            results.add(row, name, value)
            print(f"{where} {name:6} {number(value):>8} {UNITS[name]}", file=sys.stderr, flush=True)
    except (NotFound, NoPostgres) as reason:
        print(f"{where} is skipped: {reason}", file=sys.stderr, flush=True)
    except PeerFailed as reason:
        print(f"{where} failed: {reason}", file=sys.stderr, flush=True)


def served(servers: Stores, row: str, options: argparse.Namespace) -> Iterator[tuple[str, float]]:
    """The figures of a system with an HTTP API."""
    servers.redis.empty()
    with tempfile.TemporaryDirectory(prefix="laneway-bench-") as folder:
        port = free_port()
        system = SYSTEMS[row](servers, port, Path(folder), f"platform_{port}")
        try:
            with running([system.api], environment=system.environment, folder=system.folder) as api:
                url = f"http://127.0.0.1:{port}"
                _wait_until_served(f"{url}/openapi.json", api)
                _load(f"{url}/tasks", 1, options)
                yield from accepted(f"{url}/tasks", api, options)
                yield "drain", drained(system, options.limit)
        finally:
            system.close()


def accepted(url: str, api: Groups, options: argparse.Namespace) -> Iterator[tuple[str, float]]:
    """Load the API for some seconds. Raises PeerFailed if it refused a request."""
    before, own = api.cpu_seconds(), _children_cpu()
    found = _load(url, options.seconds, options)
    if found["failed"] or not found["accepted"]:
        raise PeerFailed(f"{found['failed']:.0f} requests failed, {found['accepted']:.0f} were accepted")
    yield "accept", found["accepted"] / found["seconds"]
    yield "p50", found["p50"]
    yield "p99", found["p99"]
    yield "CPU", (api.cpu_seconds() - before) / found["accepted"] * 1e6
    yield "load", (_children_cpu() - own) / found["seconds"] * 100


def drained(system: System, limit_seconds: float) -> float:
    """Start a worker; returns tasks a second from 10 % to 95 % done."""
    with running([system.worker], environment=system.environment, folder=system.folder) as worker:
        return _rate(system.done, worker, START_SECONDS, limit_seconds)


def without_http(servers: Stores, row: str, options: argparse.Namespace) -> Iterator[tuple[str, float]]:
    """The figures of a library in PostgreSQL without an HTTP API: 20 callers enqueue, and a worker drains."""
    library = LIBRARIES[row]
    runtime = RUNTIMES[library.runtime]()
    environment = {**runtime.environment, **servers.environment(library.database)}

    def drive(verb: str, count: int) -> dict[str, Any]:
        argv = library.drive(runtime, verb, count)
        return call(argv, environment=environment, folder=DRIVERS, seconds=START_SECONDS)

    drive("prepare", 0)
    servers.run(library.database or "", library.empty)
    answer = drive("crowd", options.jobs)
    taken = sorted(answer["ms"])
    yield "accept", len(taken) / answer["seconds"]
    yield "p50", taken[len(taken) // 2]
    yield "p99", taken[int(len(taken) * 0.99)]
    yield "CPU", answer["cpu_seconds"] / len(taken) * 1e6
    before = library.count(servers)
    (setup,) = library.setups
    commands = [setup.command(runtime)] * setup.processes
    with running(commands, environment=environment, folder=DRIVERS) as workers:
        yield "drain", _rate(lambda: library.count(servers) - before, workers, START_SECONDS, options.limit)


def _rate(done: Callable[[], int], workers: Groups, start_seconds: float, limit_seconds: float) -> float:
    """Wait for the first finished task, and then for no more; returns tasks a second from 10 % to 95 % of all."""
    until = time.perf_counter() + start_seconds
    while not done():
        workers.check()
        if time.perf_counter() > until:
            raise PeerFailed("no task was done in time")
        time.sleep(POLL_SECONDS)
    samples = sample(
        done,
        sys.maxsize,
        until=time.perf_counter() + limit_seconds,
        poll_seconds=POLL_SECONDS,
        check=workers.check,
        idle_seconds=2,
    )
    return rate(samples, FROM, TO)


def _load(url: str, seconds: float, options: argparse.Namespace) -> dict[str, float]:
    if options.load:
        return wrk.load(options.load, url, connections=CONNECTIONS, seconds=seconds, body=BODY)
    argv = [sys.executable, "load.py", url, str(CONNECTIONS), str(seconds), BODY]
    return call(argv, environment={}, folder=HERE, seconds=seconds + START_SECONDS)


def _wait_until_served(url: str, api: Groups) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        api.check()
        try:
            urlopen(url, timeout=30).close()  # noqa: S310  our own server
        except OSError as error:
            if time.monotonic() > deadline:
                raise PeerFailed(f"the API did not answer in time: {error}") from error
            time.sleep(0.1)
        else:
            return


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def show(results: Results, about: dict[str, Any], options: argparse.Namespace) -> None:
    """Print the tables and write the file."""
    ratios = results.ratios(OURS, [row for row in options.systems if not row.startswith(OURS)], COMPARED)
    console = Console(width=None if sys.stdout.isatty() else 200)
    print("  ".join(f"{key}: {value}" for key, value in about.items()))
    console.print(results.figures_table(UNITS))
    console.print(f"\nHow many times better {OURS} is; below 1 it is worse.")
    console.print(ratios_table(OURS, ratios))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(results.to_json(about, ratios), "utf-8")
    print(f"all figures: {options.json}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options; unknown names end the program with 2."""
    known = [*SYSTEMS, *WITHOUT_HTTP]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers.platform", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--systems", default=",".join(known), help=f"of {', '.join(known)}")
    parser.add_argument("--seconds", type=float, default=6, help="seconds of load (6)")
    parser.add_argument("--rounds", type=int, default=2, help="rounds, interleaved (2)")
    parser.add_argument("--jobs", type=int, default=2000, help="jobs of the libraries without HTTP (2000)")
    parser.add_argument("--limit", type=float, default=20, help="seconds after which a drain is not waited for (20)")
    parser.add_argument("--own-load", action="store_true", help="use load.py, also where wrk is installed")
    parser.add_argument("--json", type=Path, default=FILE, help="the file with all figures (build/bench-platform.json)")
    options = parser.parse_args(argv)
    options.systems = [name for name in options.systems.split(",") if name]
    if unknown := set(options.systems) - set(known):
        parser.error(f"--systems has {', '.join(sorted(unknown))}, and takes names of {', '.join(known)}")
    options.load = None if options.own_load else shutil.which("wrk")
    return options


if __name__ == "__main__":
    sys.exit(main())
