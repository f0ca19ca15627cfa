"""What each view of the overview shows: it asks the platform, and makes rows of text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from laneway._printable import one_line
from laneway.cli.board.rates import WINDOW, Rates
from laneway.cli.source import DeadLetterFilter, TaskFilter
from laneway.cli.times import span
from laneway.schemas.choices import TaskState

if TYPE_CHECKING:
    from laneway.cli.source import Source
    from laneway.schemas.task import TaskStatus

MOST: Final = 200
"""Rows of a list."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a page. `key` names what it shows: a queue, a task, a group, a worker."""

    key: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """What a view shows. `note`: one line above it. `empty`: said when there are no rows."""

    columns: tuple[str, ...]
    rows: Sequence[Row]
    note: str = ""
    empty: str = "Nothing."


@dataclass
class Look:
    """What is looked at: the view, and what narrows it."""

    view: str = "queues"
    which: TaskFilter = field(default_factory=TaskFilter)
    group: str | None = None
    rates: Rates = field(default_factory=Rates)


def queues(source: Source, look: Look, *, at: float) -> Page:
    """The queues, with rates and alerts."""
    found = source.overview(WINDOW)
    rates = look.rates.of(found, at=at)
    rows = [
        Row(
            name,
            (
                name,
                "paused" if each.paused else "no worker" if not each.workers else "open",
                str(each.pending),
                str(each.active),
                str(each.scheduled),
                str(each.accepted),
                str(each.dead),
                _rate(rates[name].arriving),
                _rate(rates[name].leaving),
                str(each.workers),
            ),
        )
        for name, each in found.queues.items()
    ]
    alerts = [one_line(alert.message) for alert in found.alerts]
    note = f"{len(alerts)} alerts: {alerts[0]}" if alerts else "no alerts"
    columns = ("queue", "state", "wait", "run", "later", "outbox", "dead", "in/s", "out/s", "workers")
    return Page(columns, rows, note if len(alerts) != 1 else f"1 alert: {alerts[0]}")


def running(source: Source, look: Look, *, at: float) -> Page:
    """The tasks that run now."""
    del look, at
    found = source.search(TaskFilter(states=(TaskState.PROCESSING,)), limit=MOST)
    rows = [
        Row(
            task.task_id,
            (
                task.name,
                task.task_id,
                task.queue,
                _since(task.started_at),
                f"{task.progress} %",
                str(task.attempts),
                one_line(task.worker or ""),
            ),
        )
        for task in found
    ]
    columns = ("task", "id", "queue", "for", "done", "attempt", "worker")
    return Page(columns, rows, f"{len(rows)} running{_cut(rows)}", "No task runs.")


def dead(source: Source, look: Look, *, at: float) -> Page:
    """The groups of dead letters, or the dead letters of one group."""
    del at
    if look.group is not None:
        return _letters(source, look.group)
    groups = source.dead_letter_groups(failed=False)
    rows = [
        Row(
            group.group,
            (
                str(group.count),
                group.name,
                one_line(f"{group.error_type}: {group.error}")[:120],
                _since(group.first_at),
                _since(group.last_at),
                group.group,
            ),
        )
        for group in groups
    ]
    return Page(
        ("count", "task", "error", "first", "last", "group"),
        rows,
        f"{sum(group.count for group in groups)} dead letters in {len(groups)} groups",
        "No dead letters.",
    )


def _letters(source: Source, group: str) -> Page:
    letters = source.dead_letters(DeadLetterFilter(group=group), limit=MOST)
    rows = [
        Row(
            letter.task_id,
            (
                letter.task_id,
                letter.name,
                letter.queue,
                _since(letter.finished_at),
                str(letter.attempts),
                one_line(letter.error or "")[:120],
            ),
        )
        for letter in letters
    ]
    columns = ("id", "task", "queue", "since", "attempts", "error")
    return Page(columns, rows, f"dead letters of the group {group}{_cut(rows)}", "The group is empty.")


def workers(source: Source, look: Look, *, at: float) -> Page:
    """The workers that have not signed off."""
    del look, at
    found = source.workers()
    rows = [
        Row(
            f"{worker.name} {worker.started_at.isoformat()}",
            (
                one_line(worker.name),
                "alive" if worker.alive else one_line(worker.ended or "silent"),
                str(len(worker.running)),
                worker.version,
                _since(worker.started_at),
                _since(worker.seen_at),
                ", ".join(worker.queues),
            ),
        )
        for worker in found
    ]
    columns = ("worker", "state", "running", "version", "up", "seen", "queues")
    return Page(columns, rows, f"{sum(worker.alive for worker in found)} alive", "No worker.")


def tasks(source: Source, look: Look, *, at: float) -> Page:
    """Tasks that were searched for, newest first."""
    del at
    found = source.search(look.which, limit=MOST)
    rows = [Row(task.task_id, _task_cells(task)) for task in found]
    columns = ("task", "id", "state", "queue", "accepted", "attempts", "error")
    return Page(columns, rows, f"{len(rows)} found{_cut(rows)}", "No task was found.")


def _task_cells(task: TaskStatus) -> tuple[str, ...]:
    return (
        task.name,
        task.task_id,
        task.status.value,
        task.queue,
        _since(task.accepted_at),
        str(task.attempts),
        one_line(task.error or "")[:120],
    )


VIEWS: Final[dict[str, Callable[..., Page]]] = {
    "queues": queues,
    "running": running,
    "dead": dead,
    "workers": workers,
    "tasks": tasks,
}
"""View → how it is read, in the order of their keys 1 to 5."""


def read(source: Source, look: Look, *, at: float) -> Page:
    """The page of a view. Raises what the source raises."""
    return VIEWS[look.view](source, look, at=at)


def _cut(rows: Sequence[Row]) -> str:
    return f" (the newest {MOST})" if len(rows) == MOST else ""


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _since(moment: datetime | None) -> str:
    return "" if moment is None else span((datetime.now(UTC) - moment).total_seconds())
