"""Tables and texts that the commands print for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from laneway._printable import one_line, printable
from laneway.cli import times
from laneway.cli.tables import Cell, Fields, Grid, ident, number, text, when
from laneway.schemas.choices import TaskState

if TYPE_CHECKING:  # the help of a command must not import pydantic
    from laneway.schemas.alert import AlertView, ReceiverAnswer
    from laneway.schemas.bulk import BulkActionView
    from laneway.schemas.feed import FeedEvent
    from laneway.schemas.history import DeadLetterGroupView, DeadLetterView
    from laneway.schemas.maintenance import TaskRuleView
    from laneway.schemas.queue import QueueLimitsResponse, UnknownQueue
    from laneway.schemas.statistics import Performance, Window
    from laneway.schemas.task import AttemptView, EventView, QueueFigures, TaskDetails, TaskStatus
    from laneway.schemas.worker import WorkerView

COLOURS: Final = {
    TaskState.COMPLETED: "green",
    TaskState.FAILED: "red",
    TaskState.DEAD_LETTER: "bold red",
    TaskState.CANCELLED: "yellow",
    TaskState.PROCESSING: "cyan",
}
MOST_EVENTS: Final = 100
"""Events that `tasks show` prints for people: the last ones."""


def queue_table(queues: dict[str, QueueFigures]) -> Grid:
    """The figures of each queue."""
    counts = ("active", "accepted", "pending", "scheduled", "dead", "workers")
    table = Grid(ident("queue"), "lane", *map(number, counts), "state")
    for name, figures in queues.items():
        table.add(
            name,
            figures.lane,
            figures.active,
            figures.accepted,
            figures.pending,
            figures.scheduled,
            _highlight(figures.dead),
            figures.workers,
            _openness(figures.paused),
        )
    return table


def limits_table(limits: Sequence[QueueLimitsResponse]) -> Grid:
    """The limits of each queue."""
    table = Grid(ident("queue"), "rate", "in flight", "longest wait", "state")
    for queue in limits:
        rate = "" if queue.rate is None else f"{queue.rate} in {times.written(queue.per_seconds)}"
        in_flight = "" if queue.max_in_flight is None else f"at most {queue.max_in_flight}"
        state = _openness(queue.paused)
        if queue.in_force is False:
            state = Cell(f"{state.text}, not in force yet", state.style)
        longest = "" if queue.max_wait_seconds is None else times.written(queue.max_wait_seconds)
        table.add(queue.queue, rate, in_flight, longest, state)
    return table


def _openness(paused: bool) -> Cell:
    return Cell("paused", "yellow") if paused else Cell("open")


def window_table(window: Window) -> Grid:
    """Success and times within a window: the total, then one row per queue and per task name."""
    names = ("completed", "failed", "dead", "success", "per second", "waiting", "p95", "processing", "p95")
    table = Grid(text(f"last {times.written(window.seconds)}", least=12), *map(number, names))
    _add_window_row(table, "all", window.total)
    for title, group in (("by queue", window.queues), ("by task", window.types)):
        table.add(Cell(title, "dim"), *[""] * len(names))
        for name, figures in group.items():
            _add_window_row(table, name, figures)
    return table


def _add_window_row(table: Grid, name: str, figures: Performance) -> None:
    waiting, processing = figures.waiting_seconds, figures.processing_seconds
    table.add(
        name,
        figures.completed,
        figures.failed,
        _highlight(figures.dead),
        "" if figures.success_rate is None else f"{figures.success_rate:.1%}",
        f"{figures.throughput:g}",
        *(
            "" if time is None else f"{time:.3f}"
            for time in (waiting.mean, waiting.p95, processing.mean, processing.p95)
        ),
    )


def task_table(tasks: Sequence[TaskStatus]) -> Grid:
    """Tasks, one per line."""
    table = Grid(ident("task id"), text("name"), "state", number("attempts"), "accepted", number("seconds"), "error")
    for task in tasks:
        table.add(
            task.task_id,
            task.name,
            state(task.status),
            task.attempts,
            when(task.accepted_at),
            seconds(task),
            task.error,
        )
    return table


def task_details(task: TaskStatus) -> Fields:
    """One task, one line per field."""
    table = Fields()
    for name in type(task).model_fields:
        value = getattr(task, name)
        if name == "progress":
            table.add(name, f"{value} %")
        elif value is not None:
            table.add(name, field_value(value))
    return table


def task_page(task: TaskDetails, attempts: Sequence[AttemptView], events: Sequence[EventView]) -> RenderableType:
    """One task with its attempts and the last of its events."""
    parts: list[RenderableType] = [task_details(task)]
    if attempts:
        parts += [Text(), attempt_table(attempts), attempt_errors(attempts)]
    if events:
        parts += [Text(), event_table(events[-MOST_EVENTS:])]
        if len(events) > MOST_EVENTS:
            parts.append(Text(f"{len(events) - MOST_EVENTS} earlier events: see --json", "dim"))
    return Lines(*parts)


def event_table(events: Sequence[EventView]) -> Grid:
    """The events of a task, one per line."""
    table = Grid("at", number("attempt"), "event", text("what"))
    for event in events:
        table.add(
            Cell(times.local(event.at), short=times.local(event.at)[11:]), event.attempt, event.kind, _said(event)
        )
    return table


def _said(event: EventView) -> str:
    data = event.data
    if event.kind == "progress":
        return f"{data.get('percent', 0)} % {data.get('message') or ''}".strip()
    if event.kind == "log":
        return f"{data.get('level', '')}: {data.get('text', '')}"
    named = [data.get(name) for name in ("worker", "outcome", "reason", "error", "text")]
    return " ".join(str(value) for value in named if value)


def dead_table(dead: Sequence[DeadLetterView]) -> Grid:
    """Dead letters, one per line."""
    table = Grid(ident("task id"), text("name"), "state", number("attempts"), "ended", "error")
    for letter in dead:
        error = f"{letter.error_type}: {letter.error}" if letter.error_type else letter.error
        table.add(letter.task_id, letter.name, state(letter.state), letter.attempts, when(letter.finished_at), error)
    return table


def dead_details(letter: DeadLetterView) -> RenderableType:
    """One dead letter, one line per field, then its traceback."""
    table = Fields()
    for name in type(letter).model_fields:
        value = getattr(letter, name)
        if name != "traceback" and value is not None:
            table.add(name, field_value(value))
    return Lines(table, Text(printable(letter.traceback or "no traceback is stored")))


def group_table(groups: Sequence[DeadLetterGroupView]) -> Grid:
    """Groups of dead letters."""
    table = Grid(ident("group"), text("task"), text("error"), number("count"), "last")
    for group in groups:
        table.add(group.group, group.name, f"{group.error_type}: {group.error}", group.count, when(group.last_at))
    return table


def retention_table(rules: Sequence[TaskRuleView]) -> Grid:
    """How long finished tasks are kept, one rule per line."""
    table = Grid("state", ident("queue"), ident("name"), number("days"), number("expired"), text("setting"))
    for rule in rules:
        table.add(rule.state or "any", rule.queue or "", rule.name or "", f"{rule.days:g}", rule.expired, rule.setting)
    return table


def bulk_action_table(actions: Sequence[BulkActionView]) -> Grid:
    """Actions on many tasks, one per line."""
    table = Grid(ident("action"), "kind", "when", text("by"), number("tasks"), number("undoable"), "undone")
    for each in actions:
        table.add(each.action, each.kind, when(each.at), each.by, each.tasks, each.undoable, when(each.undone_at))
    return table


def worker_table(workers: Sequence[WorkerView]) -> Grid:
    """Workers, one per line."""
    table = Grid(
        ident("worker"),
        "host",
        "version",
        text("queues"),
        number("running"),
        text("tasks"),
        "since",
        "last seen",
        "state",
    )
    for worker in workers:
        table.add(
            worker.name,
            worker.host,
            worker.version,
            ", ".join(worker.queues),
            len(worker.running),
            ", ".join(worker.running),
            when(worker.started_at),
            when(worker.seen_at),
            Cell("alive", "green") if worker.alive else Cell(worker.ended or "silent", "red"),
        )
    return table


def state(value: TaskState) -> Cell:
    """A state in its colour."""
    return Cell(value.value, COLOURS.get(value, ""))


def field_value(value: object) -> Cell:
    """A field's value, as people read it."""
    if isinstance(value, TaskState):
        return state(value)
    if isinstance(value, datetime):
        return when(value)
    if isinstance(value, dict | list):
        return Cell(json.dumps(value, indent=2, ensure_ascii=False, default=str) if value else json.dumps(value))
    return Cell(str(value))


def seconds(task: TaskStatus) -> str:
    """The duration of a finished task; empty for others."""
    if not (task.started_at and task.finished_at):
        return ""
    return f"{(task.finished_at - task.started_at).total_seconds():.2f}"


def alert_line(message: str, *, since: datetime) -> Text:
    """One open alert."""
    return Text.assemble(
        ("alert", "bold red"), f" {one_line(message)} (since {times.local(since)}, {times.ago(since)})"
    )


def alert_view(alert: AlertView) -> Text:
    """One alert: its severity, its text, and since when it is open."""
    colour = "dim" if alert.closed_at else "bold red" if alert.severity == "severe" else "bold yellow"
    over = f", over since {times.local(alert.closed_at)}" if alert.closed_at else ""
    since = f" (since {times.local(alert.opened_at)}, {times.ago(alert.opened_at)}{over})"
    return Text.assemble((f"{alert.severity:6}", colour), f" {one_line(alert.message)}{since}")


def receiver_answer(answer: ReceiverAnswer) -> Text:
    """What one receiver of notices answered."""
    mark = ("ok    ", "bold green") if answer.sent else ("failed", "bold red")
    return Text.assemble(mark, f" {one_line(answer.receiver)}: {one_line(answer.answer)}")


def unknown_queue_line(queue: UnknownQueue) -> Text:
    """A queue that the application does not declare."""
    return Text.assemble(("unknown", "bold yellow"), f" {printable(str(queue))}")


def count(number: int, noun: str) -> str:
    """A number with its noun: `1 task`, `2 tasks`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _highlight(number: int) -> Cell:
    return Cell(str(number), "bold red" if number else "")


def attempt_table(attempts: Sequence[AttemptView]) -> Grid:
    """The attempts of a task."""
    table = Grid(number("attempt"), text("worker"), "started", number("seconds"), "outcome", text("error"))
    for attempt in attempts:
        ended = attempt.ended_at
        table.add(
            attempt.number,
            attempt.worker,
            when(attempt.started_at),
            f"{(ended - attempt.started_at).total_seconds():.2f}" if ended else "",
            attempt.outcome or "running",
            f"{attempt.error_type}: {attempt.error}" if attempt.error else "",
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


def headline(event: EventView) -> str:
    """An event in a few words."""
    data = event.data
    detail = data.get("worker") or data.get("outcome") or data.get("reason") or data.get("text") or ""
    return one_line(f"{event.kind} {detail}")[:60]


def feed_line(event: FeedEvent) -> str:
    """An event of a feed as one line: time, id, task, what happened."""
    at = f"{event.at.astimezone():%H:%M:%S} {event.id}"
    if event.task_id is None:
        return one_line(f"{at} {event.kind}: {event.data.get('reason', '')}")
    detail = headline(event) if event.kind != "progress" else f"progress {event.data.get('percent')} %"
    return one_line(f"{at} {event.task_id} {event.name} [{event.queue}] {detail}")


def data(model: Any) -> Any:
    """A model as plain data."""
    return model.model_dump(mode="json")
