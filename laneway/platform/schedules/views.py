"""Schedules and firings as the API, the command line and the console show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from laneway._masking import without_secrets
from laneway.platform.db.models import ScheduleFiring, StoredSchedule
from laneway.platform.schedules.definition import Definition
from laneway.platform.schedules.keeping import definition_in
from laneway.platform.schedules.schedules import upcoming
from laneway.schemas.schedule import (
    FiringOutcome,
    FiringView,
    ScheduleDefinition,
    ScheduleSource,
    ScheduleSummary,
    ScheduleView,
)


def describe(row: StoredSchedule) -> ScheduleSummary:
    """A schedule in a list."""
    return ScheduleSummary(**_fields(row, definition_in(row)))


def describe_whole(row: StoredSchedule, firings: Sequence[ScheduleFiring]) -> ScheduleView:
    """A schedule with its next and last firings."""
    definition = definition_in(row)
    return ScheduleView(
        **_fields(row, definition),
        definition=None if definition is None else _shown(definition),
        upcoming=upcoming(row),
        firings=[describe_firing(firing) for firing in firings],
    )


def describe_firing(firing: ScheduleFiring) -> FiringView:
    """What became of one due time."""
    return FiringView(
        due_at=firing.due_at,
        outcome=FiringOutcome(firing.outcome),
        task_id=firing.task_id,
        reason=firing.reason,
        decided_at=firing.decided_at,
        asked_by=firing.asked_by,
    )


def _fields(row: StoredSchedule, definition: Definition | None) -> dict[str, Any]:
    return {
        "key": row.key,
        "source": ScheduleSource(row.source),
        "task": None if definition is None else definition.task,
        "when": None if definition is None else definition.when,
        "paused_at": row.paused_at,
        "paused_by": row.paused_by,
        "next_at": row.next_at if row.paused_at is None else None,
        "last_due_at": row.last_due_at,
        "problem": row.problem,
        "changed_at": row.changed_at,
        "changed_by": row.changed_by,
    }


def _shown(definition: Definition) -> ScheduleDefinition:
    return ScheduleDefinition.model_validate(definition.model_dump() | {"payload": without_secrets(definition.payload)})
