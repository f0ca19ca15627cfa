"""The figures of a load, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.load.account import Account


@dataclass(frozen=True, slots=True)
class Burst:
    """Requests that were sent all at once. Times in milliseconds."""

    times: list[float]
    seconds: float
    refused: int


def show(out: Console, stats: Sequence[dict[str, Any]], *, seconds: float) -> int:
    """One line a route, and one for all; gives back how many requests failed."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("route", "requests", "failed", "mean ms", "p50", "p95", "p99", "max"):
        table.add_column(column, justify="left" if column == "route" else "right", no_wrap=True)
    total: dict[int, int] = {}
    for one in sorted(stats, key=lambda each: (each["name"], each["method"])):
        times = {int(float(time)): int(number) for time, number in one["response_times"].items()}
        for time, number in times.items():
            total[time] = total.get(time, 0) + number
        table.add_row(f"{one['method']} {one['name']}", str(one["num_requests"]), str(one["num_failures"]), *_of(times))
    requests, failed = (sum(one[name] for one in stats) for name in ("num_requests", "num_failures"))
    table.add_section()
    table.add_row("all", str(requests), str(failed), *_of(total), style="bold")
    out.print(table)
    out.print(f"{requests / seconds:.0f} requests a second for {seconds:.0f} s.")
    return int(failed)


def show_burst(out: Console, burst: Burst) -> None:
    """One line."""
    times = sorted(burst.times)
    mean = sum(times) / max(len(times), 1)
    out.print(
        f"{len(times)} workflow requests at once: all answered in {burst.seconds:.2f} s; mean {mean:.0f} ms, "
        f"longest {times[-1]:.0f} ms; {burst.refused} refused."
    )


def show_account(out: Console, found: Account) -> None:
    """What became of it all."""
    states = ", ".join(f"{number} {state}" for state, number in sorted(found.states.items()))
    out.print(f"{found.accepted} tasks accepted by the API; with those that they led to: {states}.")
    out.print(
        f"The last was over {found.drained_after:.1f} s after the load. lost: {found.lost}, "
        f"left: {found.left}, unaccounted: {found.unaccounted}.",
        style="bold",
    )
    for line in found.failed[:10]:
        out.print(f"  not completed: {line}", style="red", markup=False)


def _of(times: dict[int, int]) -> tuple[str, ...]:
    number = sum(times.values())
    if not number:
        return ("",) * 5
    mean = sum(time * count for time, count in times.items()) / number
    return (f"{mean:.0f}", *(str(_percentile(times, share)) for share in (0.5, 0.95, 0.99)), str(max(times)))


def _percentile(times: dict[int, int], share: float) -> int:
    left = share * sum(times.values())
    for time in sorted(times):
        left -= times[time]
        if left <= 0:
            return time
    return max(times)
