"""The results: a table for people, JSON for comparisons."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import statistics
from pathlib import Path
from typing import Any

from benchmarks.throughput.workloads import Figure

UNITS = {"W1": "jobs/s", "W1b": "jobs/s", "W2": "jobs/s", "W3": "ms p50", "W5": "bytes"}
LESS_IS_BETTER = {"W3", "W5"}
PACKAGES = ("celery", "kombu", "redis", "hiredis")


def machine(server: dict[str, Any]) -> dict[str, str | float]:
    """The machine and the versions that the figures were measured with."""
    name = "Valkey" if "valkey_version" in server else "Redis"
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return {
        "system": platform.platform(),
        "cpu": f"{os.cpu_count()} x {model}",
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "server": f"{name} {server.get('valkey_version', server['redis_version'])}",
        "append_only": str(bool(server.get("aof_enabled"))),
        **{package: importlib.metadata.version(package) for package in PACKAGES},
    }


class Results:
    """The figures of each workload (with its pool, if it has one) and contestant, one for each round."""

    def __init__(self) -> None:
        self.figures: dict[str, dict[str, list[Figure]]] = {}

    def add(self, workload: str, name: str, figure: Figure) -> None:
        """Add the figure of one round."""
        self.figures.setdefault(workload, {}).setdefault(name, []).append(figure)

    def median(self, workload: str, name: str) -> float:
        """The median over the rounds."""
        return statistics.median(figure.value for figure in self.figures[workload][name])

    def ratio(self, workload: str, name: str, *, to: str = "stock") -> float | None:
        """How many times better a contestant is than `to`, by medians; None if one of them was not measured."""
        by_name = self.figures.get(workload, {})
        if name not in by_name or to not in by_name:
            return None
        own, other = self.median(workload, name), self.median(workload, to)
        return other / own if workload.split()[0] in LESS_IS_BETTER else own / other

    def table(self) -> str:
        """The table: medians with minimum and maximum, ratios to stock Celery, and the cost of one job."""
        head = f"{'':16}{'':9}{'median':>9} {'min':>9} {'max':>9} {'ratio':>7}   {'commands':>8} {'reads':>6}"
        lines = [head + f" {'redis us':>8} {'in B':>6} {'out B':>6}  more"]
        for workload, by_name in self.figures.items():
            for name, figures in by_name.items():
                lines.append(self._line(workload, name, figures))
        return "\n".join(lines)

    def to_json(self, about: dict[str, Any]) -> str:
        """All figures of all rounds as JSON."""
        figures = {
            workload: {name: [dataclasses.asdict(figure) for figure in rounds] for name, rounds in by_name.items()}
            for workload, by_name in self.figures.items()
        }
        ratios = {
            workload: {name: self.ratio(workload, name) for name in by_name if name != "stock"}
            for workload, by_name in self.figures.items()
        }
        return json.dumps({"about": about, "ratios_to_stock": ratios, "figures": figures}, indent=2)

    def _line(self, workload: str, name: str, figures: list[Figure]) -> str:
        values = [figure.value for figure in figures]
        ratio = self.ratio(workload, name)
        digits = 2 if workload.startswith("W3") else 0
        low, middle, high = (f"{value:,.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
        factor = f"{ratio:.2f}x" if ratio is not None and name != "stock" else ""
        line = f"{workload:16}{name:9}{middle:>9} {low:>9} {high:>9} {factor:>7}"
        costs = [figure.cost for figure in figures if figure.cost]
        if costs:
            parts = [
                statistics.median(getattr(cost, part) for cost in costs)
                for part in ("commands", "reads", "cpu_us", "bytes_in", "bytes_out")
            ]
            line += "   {:8.2f} {:6.2f} {:8.1f} {:6.0f} {:6.0f}".format(*parts)
        more = {key: statistics.median(figure.more[key] for figure in figures) for key in figures[0].more}
        return line + "  " + ", ".join(f"{key} {value:,.{digits}f}" for key, value in more.items())
