"""The report of one or more runs: a table, and JSON with every finding and its history."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.chaos.quantiles import quantiles
from benchmarks.chaos.run import Outcome
from benchmarks.chaos.verdict import STUCK, Finding, summary

SHOWN = 5
"""The most findings of each kind on the terminal; the JSON file has all of them."""


def write(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write the whole report as JSON."""
    path.write_text(
        json.dumps({"machine": _machine(), "runs": [_as_json(one) for one in outcomes]}, indent=1, default=str)
    )


def show(outcomes: Sequence[Outcome], out: Console) -> None:
    """Print the table, the findings and the promises."""
    table = Table(title=", ".join(f"{name} {value}" for name, value in _machine().items()), title_justify="left")
    table.add_column("")
    for one in outcomes:
        table.add_column(one.plan.transport, justify="right")
    columns = [_rows(one) for one in outcomes]
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns))
    out.print(table)
    for one in outcomes:
        _show_findings(one, out)
        out.print(f"\n[bold]{one.plan.transport}[/]")
        for promise in one.promises:
            mark = "[green]holds[/]" if promise.held else "[red]BROKEN[/]"
            out.print(f"  {mark}  {promise.name} ({promise.detail})")


def _rows(one: Outcome) -> dict[str, str]:
    verdict = one.verdict
    kinds = Counter(str(disturbance.kind) for disturbance in one.disturbances)
    reasons = ", ".join(f"{kind} {count}" for kind, count in sorted(verdict.explained_by.items()))
    stuck = sum(STUCK in finding.what for finding in verdict.lost)
    return {
        "redelivery after (lease, visibility timeout)": f"{one.plan.redelivery_seconds:g} s",
        "disturbances": ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())),
        "accepted": str(verdict.accepted),
        "executed": str(verdict.executed),
        "lost: gone": str(len(verdict.lost) - stuck),
        "lost: not executed by the deadline": str(stuck),
        "duplicated, explained": f"{len(verdict.duplicated) - len(verdict.unexplained)}"
        + (f" ({reasons})" if reasons else ""),
        "duplicates per hard kill": f"{verdict.duplicates_per_kill:.2f} ({verdict.kill_duplicates} / {verdict.kills})",
        "duplicated, unexplained": str(len(verdict.unexplained)),
        "begun again, unexplained": str(len(verdict.reruns_unexplained)),
        "tasks at risk at kills": str(verdict.at_risk),
        "recovery p50 / p99 / max": _times(verdict.recovery),
        "new work after a server's death": _times(verdict.resumed),
        "waited p50 / p99 / max": _times(verdict.waited),
        f"waited longer than {one.plan.margin:g} s + redelivery": str(len(verdict.late)),
        "begun before due": str(len(verdict.early)),
        "order violations / keyed runs": f"{len(verdict.order)} / {verdict.keyed}",
        "limited runs at a time / all": f"{verdict.limited_at_once} / {verdict.limited}",
        "publishes refused": str(verdict.refused),
        "forked children that hung": str(len(verdict.hung)),
        "workers that stopped consuming": str(len(verdict.stalled)),
        "processes that crashed": str(len(one.crashes)),
        "workers that would not stop": str(len(one.would_not_stop)),
        "all tasks done after": "not by the deadline" if one.drained is None else f"{one.drained:.1f} s",
        "took": f"{one.took:.0f} s",
    }


def _times(values: Sequence[float]) -> str:
    found = quantiles(values)
    return f"{found['p50']:.2f} / {found['p99']:.2f} / {found['max']:.2f} s" if found else "-"


def _show_findings(one: Outcome, out: Console) -> None:
    verdict = one.verdict
    groups: dict[str, list[Finding]] = {
        "lost": verdict.lost,
        "duplicated without reason": verdict.unexplained,
        "begun again without reason": verdict.reruns_unexplained,
        "taken over too late": verdict.over_limit,
        "waited too long": verdict.late,
        "out of order": verdict.order if one.plan.transport == "laneway" else [],
    }
    for name, findings in groups.items():
        for finding in findings[:SHOWN]:
            by = f" [{', '.join(finding.explained_by)}]" if finding.explained_by else ""
            out.print(escape(f"{one.plan.transport}, {name}: {finding.kind} {finding.mark}: {finding.what}{by}"))
            for line in finding.history:
                out.print(escape(f"    {line}"))
        if len(findings) > SHOWN:
            out.print(f"    ... {len(findings) - SHOWN} more in the JSON file")
    for line in verdict.stalled[:SHOWN]:
        out.print(escape(f"{one.plan.transport}, stopped consuming: {line}"))
    for crash in one.crashes[:SHOWN]:
        last = crash.last_lines[-1] if crash.last_lines else ""
        out.print(escape(f"{one.plan.transport}, crashed: {crash.name} with code {crash.code}: {last}"))


def _as_json(one: Outcome) -> dict[str, Any]:
    verdict = one.verdict
    findings = {
        "lost": verdict.lost,
        "duplicated": verdict.duplicated,
        "reruns_unexplained": verdict.reruns_unexplained,
        "over_limit": verdict.over_limit,
        "late": verdict.late,
        "early": verdict.early,
        "order": verdict.order,
    }
    return {
        "transport": one.plan.transport,
        "clean": one.clean,
        "plan": asdict(one.plan),
        "server": one.server,
        "summary": summary(verdict),
        "promises": [asdict(promise) for promise in one.promises],
        "drained_after": one.drained,
        "took": round(one.took, 1),
        "findings": {name: [asdict(finding) for finding in some] for name, some in findings.items()},
        "stalled": verdict.stalled,
        "crashes": [asdict(crash) for crash in one.crashes],
        "would_not_stop": one.would_not_stop,
        "disturbances": [asdict(disturbance) for disturbance in one.disturbances],
    }


def _machine() -> dict[str, str]:
    versions = {name: version(name) for name in ("celery", "kombu", "redis", "billiard")}
    return {
        "Python": platform.python_version(),
        **versions,
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f}",
    }
