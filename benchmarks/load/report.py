"""The figures of a load as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.load.account import Account


@dataclass(frozen=True, slots=True)
class Burst:
    """Requests that were sent at the same moment. `times` are in milliseconds."""

    times: list[float]
    seconds: float
    refused: int


def show(out: Console, stats: Sequence[dict[str, Any]], *, seconds: float) -> int:
    """Print one line per route and one for all routes; returns the number of failed requests."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("route", "requests", "failed", "mean ms", "p50", "p95", "p99", "max"):
        table.add_column(column, justify="left" if column == "route" else "right", no_wrap=True)
    total: dict[int, int] = {}
    for route in sorted(stats, key=lambda each: (each["name"], each["method"])):
        times = {int(float(time)): int(number) for time, number in route["response_times"].items()}
        for time, number in times.items():
            total[time] = total.get(time, 0) + number
        table.add_row(
            f"{route['method']} {route['name']}",
            str(route["num_requests"]),
            str(route["num_failures"]),
            *_summary(times),
        )
    requests, failed = (sum(route[name] for route in stats) for name in ("num_requests", "num_failures"))
    table.add_section()
    table.add_row("all", str(requests), str(failed), *_summary(total), style="bold")
    out.print(table)
    out.print(f"{requests / seconds:.0f} requests a second for {seconds:.0f} s.")
    return int(failed)


def show_burst(out: Console, burst: Burst) -> None:
    """Print the figures of a burst in one line."""
    times = sorted(burst.times)
    mean = sum(times) / max(len(times), 1)
    out.print(
        f"{len(times)} workflow requests at once: all responses within {burst.seconds:.2f} s; mean {mean:.0f} ms, "
        f"longest {times[-1]:.0f} ms; {burst.refused} refused."
    )


def show_account(out: Console, account: Account) -> None:
    """Print the account of all accepted tasks."""
    states = ", ".join(f"{number} {state}" for state, number in sorted(account.states.items()))
    out.print(f"{account.accepted} tasks accepted by the API; with the tasks that they submitted: {states}.")
    out.print(
        f"The last task finished {account.drained_after:.1f} s after the load. lost: {account.lost}, "
        f"left: {account.left}, unaccounted: {account.unaccounted}.",
        style="bold",
    )
    for line in account.failed[:10]:
        out.print(f"  not completed: {line}", style="red", markup=False)


def _summary(times: dict[int, int]) -> tuple[str, ...]:
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
