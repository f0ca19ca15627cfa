"""How the command line shows things to people."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.pretty import Pretty
from rich.table import Column, Table
from rich.text import Text

from laneway.platform.db.models import TaskEvent, TaskRun
from laneway.platform.db.queries.search import Group
from laneway.platform.operations.audit import AuditReport
from laneway.platform.operations.result_audit import ResultReport
from laneway.platform.schemas.queue import QueueLimitsResponse
from laneway.platform.schemas.statistics import Window
from laneway.platform.schemas.task import AttemptView, QueueFigures, TaskState, TaskStatus

COLOURS = {
    TaskState.COMPLETED: "green",
    TaskState.FAILED: "red",
    TaskState.DEAD_LETTER: "bold red",
    TaskState.CANCELLED: "yellow",
    TaskState.PROCESSING: "cyan",
}
READABLE = (".md", ".txt", ".pdf", ".docx", ".html", ".htm")


def queue_table(queues: dict[str, QueueFigures]) -> Table:
    """All queues."""
    table = Table("queue", "lane", box=None, header_style="bold")
    for name in ("active", "pending", "scheduled", "dead", "workers"):
        table.add_column(name, justify="right")
    for name, figures in queues.items():
        table.add_row(
            name,
            figures.lane,
            str(figures.active),
            str(figures.pending),
            str(figures.scheduled),
            _count(figures.dead, "bold red"),
            str(figures.workers),
        )
    return table


def limits_table(limits: Sequence[QueueLimitsResponse]) -> Table:
    """The limits of queues."""
    table = Table("queue", "rate", "in flight", "state", box=None, header_style="bold")
    for one in limits:
        rate = "" if one.rate is None else f"{one.rate} in {one.per_seconds:g} s"
        most = "" if one.max_in_flight is None else f"at most {one.max_in_flight}"
        table.add_row(one.queue, rate, most, Text("paused" if one.paused else "open", "yellow" if one.paused else ""))
    return table


def window_table(window: Window) -> Table:
    """How it went lately: everything, then each queue and each type."""
    table = Table(f"last {window.seconds:g} s", box=None, header_style="bold")
    for name in ("completed", "failed", "dead", "success", "a second", "waiting", "p95", "processing", "p95"):
        table.add_column(name, justify="right")
    groups = (("", window.queues), ("type ", window.types))  # a queue and a type may have one name
    named = (("all", window.total), *((kind + name, one) for kind, group in groups for name, one in group.items()))
    for name, one in named:
        share = "" if one.success_rate is None else f"{one.success_rate:.1%}"
        times = (
            one.waiting_seconds.mean,
            one.waiting_seconds.p95,
            one.processing_seconds.mean,
            one.processing_seconds.p95,
        )
        table.add_row(
            name,
            str(one.completed),
            str(one.failed),
            _count(one.dead, "bold red"),
            share,
            f"{one.throughput:g}",
            *("" if time is None else f"{time:.3f}" for time in times),
        )
    return table


def task_table(tasks: Sequence[TaskStatus]) -> Table:
    """Tasks, one a line."""
    whole_id = Column("task id", overflow="fold", min_width=36)  # it is there to be copied
    table = Table(whole_id, "name", "state", "attempts", "accepted", "seconds", "error", box=None, header_style="bold")
    for task in tasks:
        table.add_row(
            task.task_id,
            task.name,
            state(task.status),
            str(task.attempts),
            moment(task.accepted_at),
            seconds(task),
            (task.error or "")[:80],
        )
    return table


def task_details(task: TaskStatus) -> RenderableType:
    """One task, a line per fact."""
    table = Table.grid(padding=(0, 2))
    for name, value in task.model_dump(exclude_none=True).items():
        if name == "status":
            table.add_row("status", state(task.status))
        elif name == "progress":
            table.add_row("progress", f"{value} %")
        else:
            table.add_row(name, fact(value))
    return table


def dead_details(run: TaskRun) -> RenderableType:
    """One dead letter, its traceback last."""
    table = Table.grid(padding=(0, 2))
    for name, value in raw(run).items():
        if name != "traceback" and value is not None:
            table.add_row(name, fact(value))
    return Lines(table, Text(run.traceback or "no traceback was kept"))


def raw(run: TaskRun) -> dict[str, Any]:
    """A ledger row as plain data; the message of one that could not be read in base64."""
    values = {column.name: getattr(run, column.name) for column in TaskRun.__table__.columns}
    return {name: _plain(value) for name, value in values.items()}


def state(value: TaskState) -> Text:
    """A state in its colour."""
    return Text(value.value, style=COLOURS.get(value, ""))


def fact(value: object) -> RenderableType:
    """One value of a line per fact: text as it is, unless something in it could do more to a terminal than be read."""
    if isinstance(value, TaskState):
        return state(value)
    if isinstance(value, datetime):
        return moment(value)
    return Text(value) if isinstance(value, str) and value.isprintable() else Pretty(value)


def moment(value: datetime) -> str:
    """A time, to the second."""
    return value.strftime("%Y-%m-%d %H:%M:%S")


def seconds(task: TaskStatus) -> str:
    """How long a finished task ran."""
    if not (task.started_at and task.finished_at):
        return ""
    return f"{(task.finished_at - task.started_at).total_seconds():.2f}"


def documents_in(paths: Iterable[Path]) -> Iterator[Path]:
    """Files as they are, folders as the readable files in them."""
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.suffix in READABLE and file.is_file())
        else:
            yield path


def alert_line(message: str, *, since: datetime) -> Text:
    """One open alert."""
    return Text.assemble(("alert", "bold red"), f" {message} (since {moment(since)})")


def _count(number: int, style: str) -> Text:
    return Text(str(number), style=style if number else "")


def group_table(groups: Sequence[Group]) -> Table:
    """Groups of dead letters."""
    table = Table("group", "task", "error", Column("count", justify="right"), "last", box=None, header_style="bold")
    for group in groups:
        table.add_row(
            group.group,
            group.name,
            f"{group.error_type}: {group.error}"[:80],
            str(group.count),
            moment(group.last_at) if group.last_at else "",
        )
    return table


def attempt_table(attempts: Sequence[AttemptView]) -> Table:
    """The attempts of a task."""
    table = Table("attempt", "worker", "started", "seconds", "outcome", "error", box=None, header_style="bold")
    for one in attempts:
        took = f"{(one.ended_at - one.started_at).total_seconds():.2f}" if one.ended_at else ""
        table.add_row(
            str(one.number),
            one.worker or "",
            moment(one.started_at),
            took,
            one.outcome or "running",
            f"{one.error_type}: {one.error}"[:80] if one.error else "",
        )
    return table


def headline(event: TaskEvent) -> str:
    """An event in a few words."""
    data = event.data
    said = data.get("worker") or data.get("outcome") or data.get("reason") or data.get("text") or ""
    return f"{event.kind} {said}"[:60]


def audit_table(found: AuditReport) -> Table:
    """Every state with its number, then what is missing."""
    table = Table.grid(padding=(0, 2))
    table.add_row("accepted", str(found.accepted))
    for one in TaskState:
        table.add_row(f"  {one.value}", str(found.by_state.get(one, 0)))
    waiting, leased = (sum(getattr(stats, name) for stats in found.engine.values()) for name in ("waiting", "leased"))
    table.add_row("in the engine", f"{waiting} waiting, {leased} taken by workers")
    table.add_row("events not recorded", str(found.unread))
    for missing in found.unaccounted:
        table.add_row("missing", f"{missing.task_id} {missing.name} ({missing.state}): {missing.why}")
    for id in found.unknown:
        table.add_row("unknown to the history", id)
    _add_results(table, found.results)
    return table


def _add_results(table: Table, results: ResultReport) -> None:
    if not results.listable:
        table.add_row("results", "not looked at: the result store is not Redis or Valkey")
        return
    counts = ", ".join(f"{number} {kind}" for kind, number in results.found.items())
    repaired = f" ({results.repaired} put back)" if results.repaired else ""
    table.add_row("results", f"{results.looked_at} looked at: {counts}{repaired}")
    if not results.scanned_all:
        table.add_row("", "there are more results than were looked through for unknown tasks")
    for finding in results.named:
        says = f"the store says {finding.stored}" if finding.stored else "the store has none"
        told = f" ({finding.state}): {says}" if finding.state else ""
        table.add_row(f"result {finding.kind}", f"{finding.task_id}{told}")
    if sum(results.found.values()) > len(results.named):
        table.add_row("", f"… and {sum(results.found.values()) - len(results.named)} more")


def audit_data(found: AuditReport) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "accepted": found.accepted,
        "by_state": {one.value: found.by_state.get(one, 0) for one in TaskState},
        "engine": {
            name: {"waiting": stats.waiting, "leased": stats.leased, "dead": stats.dead}
            for name, stats in found.engine.items()
        },
        "unread_events": found.unread,
        "unaccounted": [plain(missing) for missing in found.unaccounted],
        "unknown": found.unknown,
        "repaired": found.repaired,
        "balanced": found.balanced,
        "results": plain(found.results),
    }


def plain(value: Any) -> dict[str, Any]:
    """A dataclass as plain data."""
    return {name: _plain(item) for name, item in asdict(value).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
