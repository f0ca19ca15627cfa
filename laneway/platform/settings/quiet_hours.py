"""Quiet hours: the time of each day in which nobody wants to be told of what can wait until the morning."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

_FORM: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


class Period(NamedTuple):
    """Quiet hours of one night: from the start to before the end."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From one time of day to another one, in a time zone. They may go over midnight."""

    start: time
    end: time
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str, zone: ZoneInfo) -> QuietHours:
        """Read a text such as `22:00-07:00`. Raises ValueError."""
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise ValueError("must be two times of day such as 22:00-07:00")
        hours = [int(part) for part in found.groups()]
        start, end = time(hours[0], hours[1]), time(hours[2], hours[3])
        if start == end:
            raise ValueError("must begin and end at different times; leave it empty for no quiet hours")
        return cls(start, end, zone)

    def current(self, now: datetime) -> Period | None:
        """The quiet hours in which `now` lies; None: it lies in none."""
        last = self._last_begun(now)
        return last if now < last.end else None

    def last(self, now: datetime) -> Period | None:
        """The quiet hours that ended last; None while quiet hours last."""
        last = self._last_begun(now)
        return last if last.end <= now else None

    def _last_begun(self, now: datetime) -> Period:
        """The quiet hours that began last. A day has 23 to 25 hours where clocks are changed."""
        today = now.astimezone(self.zone).date()
        for days in (0, 1, 2):
            day = today - timedelta(days=days)
            start = datetime.combine(day, self.start, self.zone)
            if start <= now:
                break
        over_midnight = timedelta(days=1) if self.end <= self.start else timedelta()
        return Period(start, datetime.combine(day + over_midnight, self.end, self.zone))
