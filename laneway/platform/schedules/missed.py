"""Which firings of a schedule act now, and which were missed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, NamedTuple

from laneway.platform.schedules.definition import Definition
from laneway.platform.schedules.timing import Timing
from laneway.schemas.schedule import Missed

LATE: Final = timedelta(seconds=60)
"""A firing that acts later than this was missed. The next leader takes over within 15 s."""
MAX_AT_ONCE: Final = 100
"""Firings that one look sends for the policy `all`; the others follow at the next look."""


class Decision(NamedTuple):
    """`fire`: due times that act now, in order. `missed`: the last due time that is left out."""

    fire: Sequence[datetime] = ()
    missed: datetime | None = None


def decide(timing: Timing, definition: Definition, *, decided_until: datetime, now: datetime) -> Decision:
    """Decide about the due times after `decided_until`, up to now."""
    last = timing.latest_to_act(decided_until, now)
    if last is None:
        return Decision()
    if definition.missed is Missed.ALL:
        since = max(decided_until, now - timedelta(seconds=definition.window))
        fire = list(islice(timing.between(since, last), MAX_AT_ONCE))
        return Decision(fire) if fire else Decision(missed=last)
    if definition.missed is Missed.SKIP and now - timing.acts_at(last) > LATE:
        return Decision(missed=last)
    return Decision([last])
