"""How the command line shows things to people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.pretty import Pretty
from rich.table import Column, Table
from rich.text import Text

from app.db.models import TaskRun
from app.schemas.task import QueueFigures, State, TaskStatus

COLOURS = {
    State.COMPLETED: "green", State.FAILED: "red", State.DEAD_LETTER: "bold red", State.CANCELLED: "yellow",
    State.PROCESSING: "cyan",
}  # fmt: skip
READABLE = (".md", ".txt")


def queue_table(queues: dict[str, QueueFigures]) -> Table:
    """All queues."""
    table = Table("queue", "lane", box=None, header_style="bold")
    for name in ("active", "pending", "scheduled", "dead", "workers"):
        table.add_column(name, justify="right")
    for name, figures in queues.items():
        table.add_row(name, figures.lane, str(figures.active), str(figures.pending), str(figures.scheduled),
                      _count(figures.dead, "bold red"), str(figures.workers))  # fmt: skip
    return table


def task_table(tasks: Sequence[TaskStatus]) -> Table:
    """Tasks, one a line."""
    whole_id = Column("task id", overflow="fold", min_width=36)  # it is there to be copied
    table = Table(whole_id, "name", "state", "attempts", "accepted", "seconds", "error", box=None,
                  header_style="bold")  # fmt: skip
    for task in tasks:
        table.add_row(task.task_id, task.name, state(task.status), str(task.attempts), moment(task.accepted_at),
                      seconds(task), (task.error or "")[:80])  # fmt: skip
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
            table.add_row(name, moment(value) if isinstance(value, datetime) else Pretty(value))
    return table


def dead_details(run: TaskRun) -> RenderableType:
    """One dead letter, its traceback last."""
    table = Table.grid(padding=(0, 2))
    for name, value in raw(run).items():
        if name != "traceback" and value is not None:
            table.add_row(name, Pretty(value))
    return Group(table, Text(run.traceback or "no traceback was kept"))


def raw(run: TaskRun) -> dict[str, Any]:
    """A ledger row as plain data."""
    values = {column.name: getattr(run, column.name) for column in TaskRun.__table__.columns}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def state(value: State) -> Text:
    """A state in its colour."""
    return Text(value.value, style=COLOURS.get(value, ""))


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
