"""Tables about batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from laneway.cli.tables import Cell, Fields, Grid, ident, number, text, when
from laneway.schemas.choices import BatchState

if TYPE_CHECKING:
    from datetime import datetime

    from laneway.schemas.batch import BatchView

COLOURS: Final = {
    BatchState.OPEN: "blue",
    BatchState.RUNNING: "yellow",
    BatchState.COMPLETED: "green",
    BatchState.FAILED: "red",
    BatchState.CANCELLED: "red",
}


def batch_table(batches: Sequence[BatchView]) -> Grid:
    """Batches, one per line."""
    counts = ("tasks", "waiting", "running", "completed", "failed", "cancelled")
    table = Grid(ident("batch"), "state", number("done"), *map(number, counts), "made", text("description"))
    for each in batches:
        table.add(
            each.batch_id,
            _state(each),
            f"{each.percent} %",
            *(str(count) for count in (each.total, each.waiting, each.running)),
            *(str(count) for count in (each.completed, each.failed, each.cancelled)),
            when(each.created_at),
            each.description or "-",
        )
    return table


def batch_details(batch: BatchView) -> RenderableType:
    """One batch with its callbacks."""
    fields = Fields()
    fields.add("batch", batch.batch_id)
    fields.add("description", batch.description or "-")
    fields.add("state", _state(batch).text)
    fields.add("progress", f"{batch.percent} % of {batch.total}")
    for name in ("waiting", "running", "completed", "failed", "cancelled"):
        fields.add(name, str(getattr(batch, name)))
    fields.add("made", f"{_moment(batch.created_at)} by {batch.created_by}")
    for name, at in (
        ("closed", batch.closed_at),
        ("cancelled at", batch.cancelled_at),
        ("first death", batch.died_at),
        ("first end", batch.completed_at),
        ("success", batch.succeeded_at),
        ("last end", batch.finished_at),
    ):
        fields.add(name, _moment(at))
    if not batch.callbacks:
        return fields
    table = Grid("event", text("task"), ident("task id"), "submitted")
    for each in batch.callbacks:
        table.add(each.event.value, each.name, each.task_id, _moment(each.submitted_at))
    return Lines(fields, Text("\nCallbacks"), table)


def _state(batch: BatchView) -> Cell:
    return Cell(batch.state.value, COLOURS[batch.state])


def _moment(at: datetime | None) -> str:
    return when(at).text or "-"
