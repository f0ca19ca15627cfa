"""Measures throughput and latency of the engine and of stock Celery in one run.

    python -m benchmarks.throughput [--rounds 3] [--jobs 10000] [--pools solo,prefork] [--json FILE]

Compare only the ratios of one run: absolute figures depend on the machine and its other work.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.throughput import workloads
from benchmarks.throughput.contestants import CONTESTANTS, make_app
from benchmarks.throughput.report import UNITS, Results, machine
from benchmarks.throughput.server import Server, own_server
from benchmarks.throughput.workers import POOLS, Pool, running

SMOKE_JOBS, SMOKE_TIMES = 200, 10


def main(argv: list[str] | None = None) -> int:
    """Measure, print the table, and write the JSON file; returns the exit code 0."""
    options = _options(argv)
    with own_server(append_only=options.aof) as server:
        about: dict[str, Any] = machine(server.info())
        about |= {"jobs": options.jobs, "rounds": options.rounds, "prefetch": options.prefetch}
        print("  ".join(f"{key}: {value}" for key, value in about.items()))
        print("  ".join(f"{workload} in {unit}" for workload, unit in UNITS.items()), end="\n\n", flush=True)
        results = Results()
        for number in range(options.rounds):
            names = options.contestants if number % 2 == 0 else options.contestants[::-1]
            _round(server, names, options, results)
            print(f"round {number + 1} of {options.rounds} done", file=sys.stderr, flush=True)
    print(results.table())
    if options.json:
        options.json.write_text(results.to_json(about) + "\n", encoding="utf-8")
    return 0


def _round(server: Server, names: list[str], options: argparse.Namespace, results: Results) -> None:
    for workload in ("W1", "W1b"):
        for name in names:
            if workload in options.workloads or (workload == "W1" and "W5" in options.workloads):
                _enqueue(workload, server, name, options, results)
    for pool in options.pools:
        for name in names:
            if {"W2", "W3"} & set(options.workloads):
                _work(server, name, pool, options, results)


def _enqueue(workload: str, server: Server, name: str, options: argparse.Namespace, results: Results) -> None:
    server.empty()
    app = make_app(name, server.url, prefetch=options.prefetch)
    if workload == "W1":
        rate, memory = workloads.enqueue(app, server, options.jobs)
        results.add("W1", name, rate)
        results.add("W5", name, memory)
    else:
        results.add("W1b", name, workloads.enqueue_in_bulk(app, name, server, options.jobs))
    app.close()
    server.empty()


def _work(server: Server, name: str, pool: Pool, options: argparse.Namespace, results: Results) -> None:
    server.empty()
    app = make_app(name, server.url, prefetch=options.prefetch)
    with running(name, pool, app, server.url, prefetch=options.prefetch, verbose=options.verbose) as workers:
        workloads.round_trip(app, server, 5)
        if "W2" in options.workloads:
            workloads.fill(app, name, server, options.jobs)
            results.add(f"W2 {pool}", name, workloads.drain(server, workers, options.jobs))
        if "W3" in options.workloads:
            results.add(f"W3 {pool}", name, workloads.round_trip(app, server, options.times))
    app.close()


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.throughput", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds, interleaved; the table shows medians (3)")
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs of W1, W1b, W2 and W5 (10000)")
    parser.add_argument("--times", type=int, default=300, help="round trips of W3 (300)")
    parser.add_argument("--prefetch", type=int, default=64, help="worker_prefetch_multiplier of every contestant (64)")
    parser.add_argument("--contestants", default="stock,engine", help=f"of {', '.join(CONTESTANTS)}")
    parser.add_argument("--pools", default="solo,prefork", help=f"of {', '.join(POOLS)}")
    parser.add_argument("--workloads", default=",".join(UNITS), help=f"of {', '.join(UNITS)}")
    parser.add_argument("--aof", action="store_true", help="use an append-only file, as in production")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--smoke", action="store_true", help="run one small round, to check that it works")
    parser.add_argument("--verbose", action="store_true", help="show the workers' output")
    options = parser.parse_args(argv)
    if options.smoke:
        options.rounds, options.jobs, options.times = 1, SMOKE_JOBS, SMOKE_TIMES
    for field, known in (("contestants", CONTESTANTS), ("pools", POOLS), ("workloads", UNITS)):
        names = getattr(options, field).split(",")
        if not set(names) <= known.keys():
            parser.error(f"--{field} takes names of {', '.join(known)}")
        setattr(options, field, names)
    options.pools = [POOLS[name] for name in options.pools]
    return options


if __name__ == "__main__":
    sys.exit(main())
