"""Tables and texts that the commands print for people."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.pretty import Pretty
from rich.table import Column, Table
from rich.text import Text

from laneway.cli.printable import printable
from laneway.schemas.task import AttemptView, QueueFigures, TaskState, TaskStatus

if TYPE_CHECKING:  # the help of a command must not import the database
    from laneway.platform.db.models import TaskEvent, TaskRun
    from laneway.platform.db.queries.search import Group
    from laneway.platform.operations.audit import AuditReport
    from laneway.platform.operations.result_audit import ResultReport
    from laneway.schemas.queue import QueueLimitsResponse, UnknownQueue
    from laneway.schemas.statistics import Performance, Window

COLOURS = {
    TaskState.COMPLETED: "green",
    TaskState.FAILED: "red",
    TaskState.DEAD_LETTER: "bold red",
    TaskState.CANCELLED: "yellow",
    TaskState.PROCESSING: "cyan",
}


def queue_table(queues: dict[str, QueueFigures]) -> Table:
    """The figures of each queue."""
    table = Table("queue", "lane", box=None, header_style="bold")
    for name in ("active", "accepted", "pending", "scheduled", "dead", "workers"):
        table.add_column(name, justify="right")
    table.add_column("state")
    for name, figures in queues.items():
        table.add_row(
            name,
            figures.lane,
            str(figures.active),
            str(figures.accepted),
            str(figures.pending),
            str(figures.scheduled),
            _highlight(figures.dead),
            str(figures.workers),
            Text("paused", "yellow") if figures.paused else Text("open"),
        )
    return table


def limits_table(limits: Sequence[QueueLimitsResponse]) -> Table:
    """The limits of each queue."""
    table = Table("queue", "rate", "in flight", "state", box=None, header_style="bold")
    for queue in limits:
        rate = "" if queue.rate is None else f"{queue.rate} in {queue.per_seconds:g} s"
        in_flight = "" if queue.max_in_flight is None else f"at most {queue.max_in_flight}"
        state = Text("paused", "yellow") if queue.paused else Text("open")
        if queue.in_force is False:
            state.append(", not in force yet")
        table.add_row(queue.queue, rate, in_flight, state)
    return table


def window_table(window: Window) -> Table:
    """Success and times within a window: the total, then one row per queue and per task name."""
    table = Table(f"last {window.seconds:g} s", box=None, header_style="bold")
    for name in ("completed", "failed", "dead", "success", "per second", "waiting", "p95", "processing", "p95"):
        table.add_column(name, justify="right")
    _add_window_row(table, "all", window.total)
    for title, group in (("by queue", window.queues), ("by task", window.types)):
        table.add_row(Text(title, style="dim"))
        for name, figures in group.items():
            _add_window_row(table, name, figures)
    return table


def _add_window_row(table: Table, name: str, figures: Performance) -> None:
    waiting, processing = figures.waiting_seconds, figures.processing_seconds
    table.add_row(
        name,
        str(figures.completed),
        str(figures.failed),
        _highlight(figures.dead),
        "" if figures.success_rate is None else f"{figures.success_rate:.1%}",
        f"{figures.throughput:g}",
        *(
            "" if time is None else f"{time:.3f}"
            for time in (waiting.mean, waiting.p95, processing.mean, processing.p95)
        ),
    )


def task_table(tasks: Sequence[TaskStatus]) -> Table:
    """Tasks, one per line."""
    id_column = Column("task id", overflow="fold", min_width=36)  # never cut, because people copy ids from here
    table = Table(id_column, "name", "state", "attempts", "accepted", "seconds", "error", box=None, header_style="bold")
    for task in tasks:
        table.add_row(
            task.task_id,
            task.name,
            state(task.status),
            str(task.attempts),
            timestamp(task.accepted_at),
            seconds(task),
            (task.error or "")[:80],
        )
    return table


def task_details(task: TaskStatus) -> RenderableType:
    """One task, one line per field."""
    table = Table.grid(padding=(0, 2))
    for name, value in task.model_dump(exclude_none=True).items():
        if name == "status":
            table.add_row("status", state(task.status))
        elif name == "progress":
            table.add_row("progress", f"{value} %")
        else:
            table.add_row(name, field_value(value))
    return table


def dead_details(run: TaskRun) -> RenderableType:
    """One dead letter, one line per field, then its traceback."""
    table = Table.grid(padding=(0, 2))
    for name, value in raw(run).items():
        if name != "traceback" and value is not None:
            table.add_row(name, field_value(value))
    return Lines(table, Text(printable(run.traceback or "no traceback is stored")))


def raw(run: TaskRun) -> dict[str, Any]:
    """A task's row as plain data. The raw bytes of an unreadable message are in base64."""
    values = {column.name: getattr(run, column.name) for column in run.__table__.columns}
    return {name: _plain(value) for name, value in values.items()}


def state(value: TaskState) -> Text:
    """A state in its colour."""
    return Text(value.value, style=COLOURS.get(value, ""))


def field_value(value: object) -> RenderableType:
    """A field's value. Text with control characters is escaped, so that it cannot control the terminal."""
    if isinstance(value, TaskState):
        return state(value)
    if isinstance(value, datetime):
        return timestamp(value)
    return Text(value) if isinstance(value, str) and value.isprintable() else Pretty(value)


def timestamp(value: datetime) -> str:
    """A time with a precision of one second."""
    return value.strftime("%Y-%m-%d %H:%M:%S")


def seconds(task: TaskStatus) -> str:
    """The duration of a finished task; empty for others."""
    if not (task.started_at and task.finished_at):
        return ""
    return f"{(task.finished_at - task.started_at).total_seconds():.2f}"


def alert_line(message: str, *, since: datetime) -> Text:
    """One open alert."""
    return Text.assemble(("alert", "bold red"), f" {message} (since {timestamp(since)})")


def unknown_queue_line(queue: UnknownQueue) -> Text:
    """A queue that the application does not declare."""
    return Text.assemble(("unknown", "bold yellow"), f" {printable(str(queue))}")


def count(number: int, noun: str) -> str:
    """A number with its noun: `1 task`, `2 tasks`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _highlight(number: int) -> Text:
    return Text(str(number), style="bold red" if number else "")


def group_table(groups: Sequence[Group]) -> Table:
    """Groups of dead letters."""
    table = Table("group", "task", "error", Column("count", justify="right"), "last", box=None, header_style="bold")
    for group in groups:
        table.add_row(
            group.group,
            group.name,
            f"{group.error_type}: {group.error}"[:80],
            str(group.count),
            timestamp(group.last_at) if group.last_at else "",
        )
    return table


def attempt_table(attempts: Sequence[AttemptView]) -> Table:
    """The attempts of a task."""
    table = Table("attempt", "worker", "started", "seconds", "outcome", "error", box=None, header_style="bold")
    for attempt in attempts:
        ended = attempt.ended_at
        duration = f"{(ended - attempt.started_at).total_seconds():.2f}" if ended else ""
        table.add_row(
            str(attempt.number),
            attempt.worker or "",
            timestamp(attempt.started_at),
            duration,
            attempt.outcome or "running",
            f"{attempt.error_type}: {attempt.error}"[:80] if attempt.error else "",
        )
    return table


def attempt_errors(attempts: Sequence[AttemptView]) -> RenderableType:
    """The whole error of each attempt that has one, with its traceback; a repeated one is shown once."""
    shown: dict[tuple[str | None, str | None], int] = {}
    parts: list[RenderableType] = []
    for attempt in attempts:
        if not attempt.error:
            continue
        first = shown.setdefault((attempt.error, attempt.traceback), attempt.number)
        parts.append(Text(f"\nAttempt {attempt.number}: {attempt.error_type or attempt.outcome}", style="bold"))
        text = attempt.traceback or attempt.error
        parts.append(Text(printable(text.rstrip()) if first == attempt.number else f"as attempt {first}"))
    return Lines(*parts)


def headline(event: TaskEvent) -> str:
    """An event in a few words."""
    data = event.data
    detail = data.get("worker") or data.get("outcome") or data.get("reason") or data.get("text") or ""
    return f"{event.kind} {detail}"[:60]


def audit_table(audit: AuditReport) -> Table:
    """The number of tasks in each state, then the missing tasks."""
    table = Table.grid(padding=(0, 2))
    table.add_row("accepted", str(audit.accepted))
    for state in TaskState:
        table.add_row(f"  {state.value}", str(audit.by_state.get(state, 0)))
    waiting, leased = (sum(getattr(stats, name) for stats in audit.engine.values()) for name in ("waiting", "leased"))
    table.add_row("in the engine", f"{waiting} waiting, {leased} leased by workers")
    table.add_row("events not recorded", str(audit.unread))
    _add_queues(table, audit)
    for missing in audit.unaccounted:
        table.add_row("missing", f"{missing.task_id} {missing.name} ({missing.state}): {missing.why}")
    for id in audit.unknown:
        table.add_row("unknown to the history", id)
    for id in audit.again:
        table.add_row("finished, but queued", id)
    for stray in audit.strays:
        table.add_row("in no state", f"{stray.id} in {stray.queue}: {stray.kind}")
    _add_results(table, audit.results)
    return table


def _add_queues(table: Table, audit: AuditReport) -> None:
    for queue, stats in audit.engine.items():
        if stats.is_newer:
            table.add_row("not compared", f"{queue}: a newer version of Laneway uses it (format {stats.format})")
        if stats.set_aside:
            table.add_row("set aside", f"{queue}: {stats.set_aside} messages of a newer version of Laneway")
    for queue, older in audit.older.items():
        table.add_row("older copy", f"{queue}: the {older} was restored from an older copy, or has lost data")
    for unknown in audit.unknown_queues:
        table.add_row("unknown queue", printable(str(unknown)))


def _add_results(table: Table, results: ResultReport) -> None:
    if not results.listable:
        table.add_row("results", "not checked: the result store is not Redis or Valkey")
        return
    counts = ", ".join(f"{number} {kind}" for kind, number in results.found.items())
    repaired = f" ({results.repaired} restored)" if results.repaired else ""
    table.add_row("results", f"{results.looked_at} checked: {counts}{repaired}")
    if not results.scanned_all:
        table.add_row("", "the store has more results than were searched for unknown tasks")
    for finding in results.named:
        stored = f"the store has {finding.stored}" if finding.stored else "the store has none"
        detail = f" ({finding.state}): {stored}" if finding.state else ""
        table.add_row(f"result {finding.kind}", f"{finding.task_id}{detail}")
    if sum(results.found.values()) > len(results.named):
        table.add_row("", f"… and {sum(results.found.values()) - len(results.named)} more")


def audit_data(audit: AuditReport) -> dict[str, Any]:
    """The audit as plain data."""
    return {
        "accepted": audit.accepted,
        "by_state": {state.value: audit.by_state.get(state, 0) for state in TaskState},
        "engine": {
            name: {
                "waiting": stats.waiting,
                "leased": stats.leased,
                "dead": stats.dead,
                "set_aside": stats.set_aside,
                "format": stats.format,
            }
            for name, stats in audit.engine.items()
        },
        "unread_events": audit.unread,
        "unaccounted": [plain(missing) for missing in audit.unaccounted],
        "unknown": audit.unknown,
        "again": audit.again,
        "strays": [plain(stray) for stray in audit.strays],
        "older": {queue: older.value for queue, older in audit.older.items()},
        "unknown_queues": [queue.model_dump(mode="json") for queue in audit.unknown_queues],
        "repaired": audit.repaired,
        "balanced": audit.balanced,
        "results": plain(audit.results),
    }


def plain(value: Any) -> dict[str, Any]:
    """A dataclass as plain data."""
    return {name: _plain(item) for name, item in asdict(value).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
