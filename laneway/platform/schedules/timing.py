"""When a schedule is due. Nothing here looks at a clock or at a server.

A due time is a moment of the schedule itself: every scheduler, on every machine and after every restart, computes the
same ones. So a due time identifies a firing.

1. A cron expression is read in a time zone of the IANA database. At a change of the clocks it does what cron does
   (cronsim): what was due in the hour that is left out is due at its end, what is due in the hour that comes twice is
   due once. An expression whose minute or hour begins with `*` follows the real time.
2. An interval counts from the start of the schedule. Without a start it counts from 1970-01-01 00:00 UTC.
3. Jitter moves the moment at which a firing acts, not its due time. The delay is derived from the key and the due time.
   It is shorter than the time to the next due time, so firings keep their order.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MOMENT: Final = timedelta(microseconds=1)
LOOK_BACK: Final = tuple(timedelta(hours=hours) for hours in (2, 50, 1000, 10_000, 300_000))
"""The last due time is looked for in ever longer times. The longest, 34 years, has a 29th of February of each day."""
MAX_SKIPPED: Final = 20_000
"""Due times that an expression may give before one falls on a day of `weekdays`."""
ALL_DAYS: Final = frozenset(range(7))


class BadTiming(ValueError):
    """A cron expression or a time zone that cannot be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The due times of one schedule: those of `cron`, or one each `every`."""

    key: str
    cron: str | None = None
    every: timedelta | None = None
    weekdays: frozenset[int] = ALL_DAYS
    """A due time of `cron` must also fall on one of these days; 0 is Sunday."""
    timezone: str = "UTC"
    start: datetime | None = None
    end: datetime | None = None
    jitter: timedelta = timedelta(0)

    def next(self, after: datetime) -> datetime | None:
        """Return the first due time after a moment, in UTC; None: there is none."""
        return next(self.between(after, None), None)

    def upcoming(self, after: datetime, count: int) -> list[datetime]:
        """Return the next due times after a moment, at most `count`."""
        return list(islice(self.between(after, None), count))

    def between(self, after: datetime, until: datetime | None) -> Iterator[datetime]:
        """The due times after a moment and until another one, in order, in UTC."""
        if self.start is not None:
            after = max(after, self.start - MOMENT)
        ends = [end for end in (until, self.end) if end is not None]
        for due in self._by_cron(after) if self.cron is not None else self._by_interval(after):
            if any(due > end for end in ends):
                return
            yield due

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Return the last due time after a moment and until another one; None: there is none."""
        for span in LOOK_BACK if self.every is None else (self.every,):
            since = max(after, min(until, self.end or until) - span)
            due = next(iter(deque(self.between(since, until), maxlen=1)), None)
            if due is not None or since == after:
                return due
        return None

    def acts_at(self, due: datetime) -> datetime:
        """Return the moment at which the firing of a due time acts: its due time and its delay by jitter."""
        if not self.jitter:
            return due
        following = self.next(due)
        most = self.jitter if following is None else min(self.jitter, following - due)
        digest = hashlib.sha256(f"{self.key} {due.isoformat()}".encode()).digest()
        return due + most * (int.from_bytes(digest[:6]) / 2**48)

    def latest_to_act(self, after: datetime, now: datetime) -> datetime | None:
        """Return the last due time after a moment whose firing should have acted by now; None: there is none."""
        due = self.latest(after, now)
        while due is not None and self.acts_at(due) > now:
            due = self.latest(after, due - MOMENT)
        return due

    def _by_interval(self, after: datetime) -> Iterator[datetime]:
        assert self.every is not None  # noqa: S101 - a timing has a cron expression or an interval
        due = EPOCH if self.start is None else self.start.astimezone(UTC)
        due += ((after - due) // self.every + 1) * self.every
        while True:
            yield due
            due += self.every

    def _by_cron(self, after: datetime) -> Iterator[datetime]:
        """The due times after a moment. An hour that comes twice could give one twice, or one that has passed."""
        assert self.cron is not None  # noqa: S101 - see above
        last = after
        try:
            for local in islice(CronSim(self.cron, after.astimezone(zone(self.timezone))), MAX_SKIPPED):
                due = local.astimezone(UTC)
                if due > last and local.isoweekday() % 7 in self.weekdays:
                    yield due
                    last = due
        except OverflowError:  # the year 10000
            return


@cache
def zone(name: str) -> ZoneInfo:
    """Return a time zone of the IANA database. Raises BadTiming."""
    if name not in available_timezones():
        raise BadTiming(f"there is no time zone {name!r}: use a name of the IANA database, such as 'Europe/Berlin'")
    return ZoneInfo(name)


def check_cron(expression: str) -> None:
    """Raise BadTiming for an expression that cannot be read, or that is never due."""
    if len(expression.split()) != 5:
        raise BadTiming(f"{expression!r} must have five fields: minute, hour, day of month, month, day of week")
    try:
        first = next(CronSim(expression, EPOCH), None)
    except CronSimError as error:
        raise BadTiming(f"{expression!r} is no cron expression: {str(error).lower()}") from None
    if first is None:
        raise BadTiming(f"{expression!r} is never due")
