"""`python -m benchmarks.chaos`: kill at random, count, and report. Exit code 0: every promise held."""

from __future__ import annotations

import argparse
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.chaos.disturbance import Kind
from benchmarks.chaos.plan import POOLS, WORKS, Plan
from benchmarks.chaos.report import show, write
from benchmarks.chaos.run import Chaos, NotStarted, Outcome
from benchmarks.chaos.server import NoServer

TRANSPORTS = ("laneway", "kombu")
WIDTH = 120
"""Columns of the table in a file or a CI log."""


def parser() -> argparse.ArgumentParser:
    """The parser of the options. Their defaults are those of `Plan`."""
    given, default = argparse.ArgumentParser(prog="benchmarks.chaos", description=__doc__), Plan()
    add = given.add_argument
    add("--transport", choices=TRANSPORTS, default=default.transport)
    add("--all", action="store_true", help="both transports one after the other, side by side in the report")
    add("--seed", type=int, default=default.seed, help="the same seed plans the same kills and the same work")
    add(
        "--kills",
        type=int,
        default=default.kills,
        help="SIGKILLs of pool processes and workers; other disturbances are added",
    )
    add(
        "--kinds",
        type=_kinds,
        default=default.kinds,
        help=f"only these disturbances, e.g. worker,cut; known: {', '.join(Kind)}",
    )
    add("--work", choices=WORKS, default=default.work, help="tasks of all kinds, or only tasks of 2-10 ms")
    add("--seconds", type=float, default=default.seconds, help="seconds over which the disturbances are spread")
    add("--lease", type=float, default=default.lease, help="laneway's lease in seconds")
    add("--visibility", type=float, default=default.visibility, help="kombu's visibility timeout in seconds")
    add("--margin", type=float, default=default.margin, help="seconds that recovery may take longer than the lease")
    add(
        "--pools",
        type=_pools,
        default=default.pools,
        help=f"the pool of each worker, e.g. prefork,solo; known: {', '.join(POOLS)}",
    )
    add("--producers", type=int, default=default.producers)
    add("--rate", type=float, default=default.rate, help="tasks per second, all producers together")
    add(
        "--most-waiting", type=int, default=default.most_waiting, help="producers pause while more tasks than this wait"
    )
    add(
        "--max-tasks-per-child",
        type=int,
        default=default.max_tasks_per_child,
        help="tasks after which a prefork worker replaces a pool process (0: never)",
    )
    add(
        "--failover",
        action=argparse.BooleanOptionalAction,
        default=default.failover,
        help="a replica and a Sentinel, so that a failover is possible (only with laneway)",
    )
    add("--fsync", choices=("always", "everysec"), default=default.fsync, help="the server's appendfsync")
    add("--folder", type=Path, default=default.folder, help="the folder of ledger, logs and report")
    add(
        "--expect-clean",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether a broken promise is a failure (default: only laneway's)",
    )
    return given


def main(argv: list[str] | None = None) -> int:
    """Run and report; returns the exit code: 0 as expected, 1 a broken promise, 2 nothing could be run."""
    options: dict[str, Any] = vars(parser().parse_args(argv))
    out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)
    signal.signal(signal.SIGTERM, _on_signal)
    both, expected = options.pop("all"), options.pop("expect_clean")
    names = TRANSPORTS if both else (options["transport"],)
    plans = [replace(Plan(**options), transport=name) for name in names]
    try:
        outcomes = [Chaos(plan, say=lambda line: out.print(line, markup=False)).run() for plan in plans]
    except (NotStarted, NoServer) as error:
        out.print(f"{error}", style="red", markup=False)
        return 2
    except KeyboardInterrupt:
        return 130
    show(outcomes, out)
    path = plans[0].folder / "report.json"
    write(outcomes, path)
    out.print(f"\nThe whole report: {path}")
    return 0 if all(one.clean or not _matters(one, expected) for one in outcomes) else 1


def _matters(one: Outcome, expected: bool | None) -> bool:
    return one.plan.transport == "laneway" if expected is None else expected


def _on_signal(*_: object) -> None:
    sys.exit(130)


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(text.split(","))
    if unknown := set(kinds) - set(Kind):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
    return kinds


def _pools(text: str) -> tuple[str, ...]:
    pools = tuple(text.split(","))
    if unknown := set(pools) - POOLS.keys():
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
    return pools


if __name__ == "__main__":
    sys.exit(main())
