"""`python -m benchmarks.scale`: measure how cost grows, and end with a table of figures and targets.

It starts a Valkey without persistence, SQLite files in a temporary folder, and PostgreSQL if it is installed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import structlog
from rich.console import Console

from benchmarks.scale import consumers, fetches, fleet, operations
from benchmarks.scale.figures import Figure, show
from benchmarks.scale.history import pages_of_unfinished_tasks
from benchmarks.throughput.report import machine
from benchmarks.throughput.server import own_server
from laneway.engine import Engine

Part: TypeAlias = Callable[[], Iterator[Figure]]
SMOKE = {
    "queues": [1, 10],
    "seconds": 0.05,
    "wide": 5,
    "deep": 20,
    "consumers": 4,
    "due": 2,
    "messages": [100, 200],
    "calls": 10,
    "rows": [1000, 2000],
    "tasks": 20,
}
PARTS = ("idle", "longest", "consumers", "operations", "reconciler", "pages", "bytes")


def main(argv: list[str] | None = None) -> int:
    """Run the chosen parts; returns the exit code: 0, also when a target is not met."""
    options = _options(argv)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    figures: list[Figure] = []
    with ExitStack() as stack:
        server = stack.enter_context(own_server(append_only=False))
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="laneway-scale-")))
        about = machine(server.info())
        out.print(f"{about['cpu']}, load {about['load']}, Python {about['python']}, {about['server']}\n")
        for name, part in _parts(options, f"{server.url}/0", folder).items():
            if name in options.parts:
                started = time.monotonic()
                server.empty()
                figures += part()
                out.print(f"{name}: {time.monotonic() - started:.0f} s")
    out.print()
    show(out, figures)
    if options.json:
        options.json.write_text(json.dumps({"about": about, "figures": [each.to_json() for each in figures]}, indent=1))
    return 0


def _parts(options: argparse.Namespace, url: str, folder: Path) -> dict[str, Part]:
    engine = Engine.from_url(url)
    return {
        "idle": lambda: fetches.idle_fetches(engine, options.queues, seconds=options.seconds),
        "longest": lambda: fetches.longest_fetches(engine, queues=options.wide, messages=options.deep),
        "consumers": lambda: consumers.fetches_per_message(
            engine, url, consumers=options.consumers, messages=options.due
        ),
        "operations": lambda: operations.operations(engine, options.messages, calls=options.calls),
        "reconciler": lambda: fleet.reconciler(url, folder),
        "pages": lambda: pages_of_unfinished_tasks(folder, rows=options.rows, postgresql=options.postgresql),
        "bytes": lambda: fleet.bytes_per_task(engine, url, folder, tasks=options.tasks),
    }


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", type=_parts_list, default=PARTS, help=f"of {', '.join(PARTS)}")
    parser.add_argument("--queues", type=_numbers, default=[1, 10, 200, 1000], help="queues of idle fetches")
    parser.add_argument("--wide", type=int, default=200, help="queues of the longest fetch (200)")
    parser.add_argument("--deep", type=int, default=1000, help="messages of each of these queues (1000)")
    parser.add_argument("--consumers", type=int, default=40, help="idle consumers (40)")
    parser.add_argument("--due", type=int, default=20, help="messages that the idle consumers get (20)")
    parser.add_argument(
        "--messages",
        type=_numbers,
        default=[1000, 10_000, 100_000],
        help="sizes of the queue in which the operations are measured (1000,10000,100000)",
    )
    parser.add_argument("--calls", type=int, default=300, help="calls of each operation (300)")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each idle fetch is repeated (1)")
    parser.add_argument("--rows", type=_numbers, default=[1000, 100_000], help="rows of the history (1000,100000)")
    parser.add_argument("--tasks", type=int, default=1000, help="tasks whose bytes are measured (1000)")
    parser.add_argument("--million", action="store_true", help="up to a million messages and rows")
    parser.add_argument("--no-postgresql", dest="postgresql", action="store_false", help="measure SQLite only")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--smoke", action="store_true", help="small numbers, to check that everything works")
    options = parser.parse_args(argv)
    if options.smoke:
        vars(options).update(SMOKE)
    if options.million:
        options.messages, options.rows = [1000, 100_000, 1_000_000], [1000, 1_000_000]
    return options


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _parts_list(text: str) -> list[str]:
    parts = text.split(",")
    unknown = set(parts).difference(PARTS)
    if unknown:
        raise argparse.ArgumentTypeError(f"takes names of {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    return parts


if __name__ == "__main__":
    os.environ.setdefault("LOG_LEVEL", "WARNING")
    sys.exit(main())
