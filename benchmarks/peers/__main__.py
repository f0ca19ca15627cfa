"""Measures Laneway beside other task queues in one run: `make bench`.

    python -m benchmarks.peers [--peers celery,huey] [--workloads W1,W2] [--jobs 5000] [--rounds 3] [--json FILE]

Only the ratios within one run count: absolute figures depend on the machine and its other work. A peer that is not
installed and cannot be is skipped, with a line that says why.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.peers.environment import ROOT, NotFound
from benchmarks.peers.group import PeerFailed, stop_at_signals
from benchmarks.peers.libraries import LIBRARIES, OURS, Library
from benchmarks.peers.results import Results, number, ratios_table
from benchmarks.peers.stores import NoPostgres, Stores, stores
from benchmarks.peers.workloads import UNITS, Bench, Figure, Sizes
from benchmarks.throughput.report import machine
from laneway.server.errors import NoValkeyBinary

FILE = ROOT / "build" / "bench.json"


def main(argv: list[str] | None = None) -> int:
    """Measure, print the tables, and write the JSON file; returns the exit code."""
    options = parse(argv)
    stop_at_signals()
    results, began = Results(), time.monotonic()
    try:
        with stores() as servers:
            about = describe(servers, options)
            benches = ready(options, servers)
            for number_of_round in range(1, options.rounds + 1):
                _round(number_of_round, benches, options, results)
    except NoValkeyBinary as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    about |= {"load_at_the_end": round(os.getloadavg()[0], 2), "seconds": round(time.monotonic() - began)}
    show(results, about, options)
    return 0


def ready(options: argparse.Namespace, servers: Stores) -> dict[str, Bench]:
    """Our library, and the peers that can run here. The others are named with the reason."""
    sizes = Sizes(options.jobs, options.round_trips, options.limit)
    found: dict[str, Bench] = {}
    for name in dict.fromkeys([OURS, *options.peers]):
        try:
            bench = Bench(LIBRARIES[name], servers, sizes)
            bench.prepare()
            found[name] = bench
        except (NotFound, NoPostgres, PeerFailed) as reason:
            say(f"{name} is skipped: {reason}")
    return found


def _round(number_of_round: int, benches: dict[str, Bench], options: argparse.Namespace, results: Results) -> None:
    """Measure each library once, in the other order in every second round."""
    names = list(benches) if number_of_round % 2 else list(benches)[::-1]
    for name in names:
        for row, measure in parts(LIBRARIES[name], benches[name], set(options.workloads), number_of_round):
            _measure(f"round {number_of_round} of {options.rounds}", row, measure, options, results)


def parts(
    library: Library, bench: Bench, wanted: set[str], number_of_round: int
) -> Iterator[tuple[str, Callable[[], Iterator[Figure]]]]:
    """The rows of a library with what measures them. W4 is measured in the first round only: its time is given."""
    if wanted & {"W1", "W1b", "W5"}:
        yield library.name, lambda: bench.produce(wanted)
    if wanted & {"W2", "W3", "CPU"}:
        for setup in library.setups:
            yield f"{library.name} {setup.name}", lambda setup=setup: bench.work(setup, wanted)
    if "W4" in wanted and number_of_round == 1:
        yield f"{library.name} {library.sleepers.name}", lambda: iter([bench.sleepers()])


def _measure(
    where: str, row: str, measure: Callable[[], Iterator[Figure]], options: argparse.Namespace, results: Results
) -> None:
    try:
        for figure in measure():
            if figure.workload in options.workloads:
                results.add(row, figure.workload, figure.value, figure.more)
                say(f"{where}  {row:24} {figure.workload:4} {number(figure.value):>8} {UNITS[figure.workload]}")
    except PeerFailed as reason:
        say(f"{where}  {row:24} failed: {reason}")


def describe(servers: Stores, options: argparse.Namespace) -> dict[str, Any]:
    """The machine and the sizes of this run."""
    about: dict[str, Any] = machine(servers.redis.info())
    about |= {"jobs": options.jobs, "rounds": options.rounds, "round_trips": options.round_trips}
    about |= {name: {"a killed worker": library.killed} for name, library in LIBRARIES.items()}
    return about


def show(results: Results, about: dict[str, Any], options: argparse.Namespace) -> None:
    """Print the tables and write the file."""
    units = {name: unit for name, unit in UNITS.items() if name in options.workloads}
    console = Console(width=None if sys.stdout.isatty() else 200)
    print("  ".join(f"{key}: {value}" for key, value in about.items() if not isinstance(value, dict)))
    console.print(results.figures_table(units))
    ratios = results.ratios(OURS, options.peers, units)
    console.print(f"\nHow many times better {OURS} is than the best of each peer; below 1 it is worse.")
    console.print(ratios_table(OURS, ratios))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(results.to_json(about, ratios), "utf-8")
    print(f"all figures: {options.json}")


def say(text: str) -> None:
    """Tell how far it is, apart from the results."""
    print(text, file=sys.stderr, flush=True)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options; unknown names end the program with 2."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=(__doc__ or "").splitlines()[0])
    peers = [name for name in LIBRARIES if name != OURS]
    parser.add_argument("--peers", default=",".join(peers), help=f"of {', '.join(peers)}; empty for none")
    parser.add_argument("--workloads", default=",".join(UNITS), help=f"of {', '.join(UNITS)}")
    parser.add_argument("--jobs", type=positive, default=5000, help="jobs of W1, W1b and W2 (5000)")
    parser.add_argument("--rounds", type=positive, default=3, help="rounds, interleaved (3)")
    parser.add_argument("--round-trips", type=positive, default=200, help="round trips of W3 (200)")
    parser.add_argument("--limit", type=float, default=8, help="seconds after which a drain is not waited for (8)")
    parser.add_argument("--json", type=Path, default=FILE, help="the file with all figures (build/bench.json)")
    options = parser.parse_args(argv)
    for field, known in (("peers", peers), ("workloads", [*UNITS])):
        names = [name for name in getattr(options, field).split(",") if name]
        if unknown := set(names) - set(known):
            parser.error(f"--{field} has {', '.join(sorted(unknown))}, and takes names of {', '.join(known)}")
        setattr(options, field, names)
    return options


def positive(text: str) -> int:
    """A number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
