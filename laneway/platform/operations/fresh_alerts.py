"""Alerts as they are now, for a person who asks: the scheduled sweep needs a worker, and there may be none."""

from __future__ import annotations

from typing import Final

from laneway.platform.alerts.alerts import Alerts
from laneway.platform.db.wait_limit import limit_waits
from laneway.platform.errors import DatabaseUnavailable

SWEEP_WAITS = 4.0
"""Seconds that the sweep waits for a database that another program holds, before the figures are shown without it."""
NOT_SWEPT: Final = "The alerts are those of the last sweep. {error}"


def sweep_now(alerts: Alerts) -> str | None:
    """Look for problems now; returns why that was not possible, for example on a full disk, or None."""
    try:
        with limit_waits(SWEEP_WAITS):
            alerts.sweep()
    except DatabaseUnavailable as error:
        return NOT_SWEPT.format(error=error)
    return None
