"""The pages of the library."""

from __future__ import annotations

from typing import Final

from laneway.console import assets
from laneway.console.pages import (
    access,
    audit,
    batches,
    canaries,
    dead_letters,
    deliveries,
    events,
    limits,
    overview,
    schedules,
    task,
    tasks,
    unknown,
    webhooks,
    workers,
    workflows,
)

CONSOLE: Final = (
    assets,
    overview,
    tasks,
    task,
    dead_letters,
    workflows,
    batches,
    schedules,
    limits,
    workers,
    canaries,
    events,
    webhooks,
    deliveries,
    audit,
    access,
)
"""The modules with the console's routers."""
LAST: Final = unknown
"""The module that comes after the pages of the application."""
