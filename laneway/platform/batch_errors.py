"""The errors of batches."""

from __future__ import annotations

from laneway.platform.errors import PlatformError


class BatchOver(PlatformError):
    """The batch takes no more tasks."""

    status, title = 409, "Batch over"

    template = "Batch {id!r} is {state}, so it takes no more tasks."
    id: str
    state: str
