"""Tables about schedules."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from laneway.cli.tables import Cell, Fields, Grid, ident, text, when

if TYPE_CHECKING:
    from datetime import datetime

    from laneway.schemas.schedule import FiringView, ScheduleSummary, ScheduleView


def schedule_table(schedules: Sequence[ScheduleSummary]) -> Grid:
    """Schedules, one per line."""
    table = Grid(ident("key"), "source", text("task"), text("times"), "next", "last", text("state"))
    for each in schedules:
        table.add(
            each.key,
            each.source.value,
            each.task or "-",
            each.when or "-",
            _moment(each.next_at),
            when(each.last_due_at),
            _state(each),
        )
    return table


def schedule_details(schedule: ScheduleView) -> RenderableType:
    """One schedule with its firings."""
    fields = Fields()
    definition = {} if schedule.definition is None else schedule.definition.model_dump(mode="json", exclude_none=True)
    fields.add("key", schedule.key)
    fields.add("source", schedule.source.value)
    fields.add("times", schedule.when or "-")
    fields.add("state", _state(schedule).text)
    fields.add("changed", f"{_moment(schedule.changed_at)} by {schedule.changed_by or 'the code'}")
    for name, value in definition.items():
        fields.add(name, json.dumps(value) if isinstance(value, dict | list) else str(value))
    upcoming = [Text(_moment(at)) for at in schedule.upcoming] or [Text("None.")]
    last = _firing_table(schedule.firings) if schedule.firings else Text("None.")
    return Lines(fields, Text("\nNext firings"), *upcoming, Text("\nLast firings"), last)


def _firing_table(firings: Sequence[FiringView]) -> Grid:
    table = Grid("due", "outcome", ident("task id"), text("reason"), text("asked by"))
    for each in firings:
        table.add(_moment(each.due_at), each.outcome.value, each.task_id or "-", each.reason, each.asked_by)
    return table


def _state(schedule: ScheduleSummary) -> Cell:
    if schedule.paused_at is not None:
        return Cell(f"paused by {schedule.paused_by or 'somebody'}", "yellow")
    if schedule.problem:
        return Cell(schedule.problem, "red")
    return Cell("active", "green")


def _moment(at: datetime | None) -> str:
    return "-" if at is None else at.astimezone().isoformat(sep=" ", timespec="seconds")
