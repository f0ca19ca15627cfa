"""What operators do with many tasks of the project's platform at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from laneway.schemas.choices import TaskState

if TYPE_CHECKING:
    from laneway.platform.platform import Platform
    from laneway.schemas.choices import ClearableState
    from laneway.schemas.history import ClearResponse


class LocalMaintenance:
    """Lets the services of the platform do it."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def clear(self, states: Sequence[ClearableState], *, older_than: float) -> ClearResponse:
        return self._platform.retention.clear([TaskState(state.value) for state in states], older_than=older_than)
