"""Keeps the schedules of the application's code in the database, beside those of operators.

1. What the code lists is stored; what it does not list any more is marked as removed, and is not due.
2. An operator's pause of a schedule stays in force when the code changes.
3. A schedule is new, or has new times: it is due from now on, and nothing is made up.
4. A schedule that is settled up to a moment in the future was settled by a clock that was ahead. It is due again from
   now on. What it has sent until then is not sent again: the firings are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from laneway.platform import clock
from laneway.platform.db.models import StoredSchedule
from laneway.platform.db.queries import schedules as queries
from laneway.platform.db.session import Database
from laneway.platform.logging import logger
from laneway.platform.schedules.definition import Definition
from laneway.platform.schedules.entry import BadSchedule, definition_of
from laneway.platform.schedules.firing import CODE
from laneway.schemas.schedule import MAX_KEY

log = logger(__name__)

AHEAD: Final = timedelta(seconds=60)
"""A schedule that is settled for longer than this into the future was settled by a clock that was ahead."""
TIMES: Final = ("cron", "every", "weekdays", "timezone", "start", "end", "jitter")

Change = dict[str, Any]
"""New values of columns."""
Entries = Mapping[str, dict[str, Any]]
"""Celery's setting `beat_schedule`."""


class Declared:
    """The schedules of the code: those that can be kept, and why the others cannot."""

    def __init__(self, entries: Entries) -> None:
        self.definitions: dict[str, Definition] = {}
        self.problems: dict[str, str] = {}
        for key, entry in entries.items():
            try:
                self.definitions[key] = definition_of(key, entry)
            except BadSchedule as error:
                self.problems[key[:MAX_KEY]] = str(error)

    def __contains__(self, key: str) -> bool:
        return key in self.definitions or key in self.problems


def keep(database: Database, entries: Entries) -> None:
    """Store what the code lists, and correct what a clock that was ahead has left. Raises DatabaseUnavailable."""
    declared, now = Declared(entries), clock.now()
    with database.reading() as session:
        is_kept = not any(_changes(queries.all_schedules(session), declared, now))
    if is_kept:
        return
    with database.transaction() as session:
        for key, change in _changes(queries.all_schedules(session), declared, now):
            row = queries.find(session, key, lock=True)
            if row is None:
                row = StoredSchedule(key=key, source=CODE, definition={}, decided_until=now, changed_at=now)
                session.add(row)
            _report(row, change, now)
            for name, value in change.items():
                setattr(row, name, value)
            log.info("schedule kept", schedule=key, **{name: str(value) for name, value in change.items()})


def _changes(rows: Iterable[StoredSchedule], declared: Declared, now: datetime) -> Iterator[tuple[str, Change]]:
    """What differs between the database and the code: the keys, and the new values of columns."""
    stored: dict[str, StoredSchedule] = {row.key: row for row in rows}
    for key, problem in declared.problems.items():
        row = stored.get(key)
        if row is None or row.problem != problem or row.next_at is not None or row.removed_at is not None:
            changed = {"changed_at": now, "changed_by": None, "removed_at": None}
            yield key, {"source": CODE, "definition": {}, "problem": problem, "next_at": None, **changed}
    for key, definition in declared.definitions.items():
        if change := _change(stored.get(key), key, definition, now):
            yield key, change
    for key, row in stored.items():
        if row.source == CODE and row.removed_at is None and key not in declared:
            yield key, {"removed_at": now, "next_at": None, "problem": None}
        elif row.decided_until > now + AHEAD and (definition := definition_in(row)) is not None:
            yield key, settled_until(key, definition, now)


def _change(row: StoredSchedule | None, key: str, definition: Definition, now: datetime) -> Change:
    """What has to be stored about a schedule that the code lists; nothing: it is stored."""
    kept = definition.as_json()
    if row is not None and row.source == CODE and row.removed_at is None and row.definition == kept:
        return {}
    values: Change = {"source": CODE, "definition": kept, "changed_at": now, "changed_by": None, "removed_at": None}
    if row is None or row.removed_at is not None or has_other_times(row.definition, kept):
        values |= settled_until(key, definition, now) | {"problem": None}
    return values


def has_other_times(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether two stored definitions are due at different times."""
    return any(before.get(name) != after.get(name) for name in TIMES)


def settled_until(key: str, definition: Definition, moment: datetime) -> Change:
    """The columns of a schedule that is due from a moment on, and not before."""
    timing = definition.timing(key)
    following = timing.next(moment)
    return {"decided_until": moment, "next_at": None if following is None else timing.acts_at(following)}


def definition_in(row: StoredSchedule) -> Definition | None:
    """Return the definition in a row; None: it cannot be read."""
    try:
        return Definition.model_validate(row.definition)
    except ValidationError:
        return None


def _report(row: StoredSchedule, change: Change, now: datetime) -> None:
    """Log what people should know about a change."""
    if row.source != CODE and "source" in change:
        log.warning(f"The schedule {row.key} of an operator is replaced by that of the code")
    if "decided_until" in change and row.decided_until > now + AHEAD:
        log.error(
            f"{row.key} is settled until {row.decided_until:%Y-%m-%d %H:%M:%S} UTC, which lies in the future: a clock "
            f"was ahead. It is due again from now on; it may have been sent too early before."
        )
