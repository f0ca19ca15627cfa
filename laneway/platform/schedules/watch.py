"""Says which entries of Beat's schedule were due and were not sent. Nothing else would notice that.

It reads what Beat keeps in Redis: when each entry was last sent, the reason why the last one was not, and the lock of
the Beat that sends. An entry that is switched off is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from celery import Celery
from celery.schedules import BaseSchedule, maybe_schedule
from redbeat.schedulers import RedBeatSchedulerEntry, ensure_conf, get_redis

from laneway.platform.broker_errors import translated_errors

GRACE: Final = timedelta(minutes=2)
"""An entry that was due longer ago than this, and was not sent, stands still."""
REFUSED: Final = "refused"
"""The field of an entry in Redis with the reason why it was not sent when it was last due."""
BEAT: Final = "Beat"


class Standstill(NamedTuple):
    """What stands still: `Beat` as a whole, or one entry; and why, for people to read."""

    subject: str
    reason: str
    is_refused: bool = False
    """Whether Beat tried to send the entry, and could not."""


class _Stored(NamedTuple):
    name: str
    schedule: BaseSchedule
    last_run_at: datetime | None
    refused: str | None
    is_stored: bool


class ScheduleWatch:
    """Looks at the schedule of one Celery app. `guarded`: the context in which Redis is asked."""

    def __init__(self, app: Celery, *, guarded: Callable[[], AbstractContextManager[None]] = translated_errors) -> None:
        self._app, self._guarded = app, guarded

    def standstills(self) -> list[Standstill]:
        """Return what stands still now. Raises BrokerUnavailable."""
        if not self._app.conf.beat_schedule:
            return []
        lock = ensure_conf(self._app).lock_key
        with self._guarded():
            beat_runs = bool(get_redis(self._app).exists(lock))
            found = [found for entry in self._entries() if (found := self._standstill(entry, beat_runs=beat_runs))]
        if not beat_runs and found:
            names = ", ".join(item.subject for item in found)
            return [Standstill(BEAT, f"no Beat runs, and these schedules were due and not sent: {names}")]
        return found

    def _entries(self) -> Iterator[_Stored]:
        schedule: dict[str, Any] = self._app.conf.beat_schedule
        client: Any = get_redis(self._app)
        with client.pipeline() as pipe:
            for name in schedule:
                pipe.hmget(RedBeatSchedulerEntry.generate_key(self._app, name), "definition", "meta", REFUSED)
            rows: list[list[str | None]] = pipe.execute()
        for (name, entry), (definition, meta, refused) in zip(schedule.items(), rows, strict=True):
            if definition is None or _is_enabled(definition):
                when = maybe_schedule(entry["schedule"], app=self._app)
                yield _Stored(name, when, _last_run_at(meta), refused, definition is not None)

    def _standstill(self, entry: _Stored, *, beat_runs: bool) -> Standstill | None:
        if not entry.is_stored or entry.last_run_at is None:  # a Beat that runs stores and sends it within seconds
            return None if beat_runs else Standstill(entry.name, "it was never sent")
        if entry.refused:
            reason = f"the schedule {entry.name!r} was due and not sent: {entry.refused}"
            return Standstill(entry.name, reason, is_refused=True)
        late: timedelta = -entry.schedule.remaining_estimate(entry.last_run_at)
        if late <= GRACE:
            return None
        reason = (
            f"the schedule {entry.name!r} has been due for {late.total_seconds() / 60:.0f} minutes and was not sent"
        )
        return Standstill(entry.name, reason)


def _is_enabled(definition: str) -> bool:
    try:
        return bool(json.loads(definition).get("enabled", True))
    except (ValueError, AttributeError):
        return True


def _last_run_at(meta: str | None) -> datetime | None:
    try:
        return RedBeatSchedulerEntry.decode_meta(meta)["last_run_at"]
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
