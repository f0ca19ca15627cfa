"""What operators do with many tasks at once, asked through the API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from laneway.client import maintenance_calls

if TYPE_CHECKING:
    from laneway.cli.api_calls import Api
    from laneway.schemas.choices import ClearableState
    from laneway.schemas.history import ClearResponse


class ApiMaintenance:
    """Asks the API to do it."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def clear(self, states: Sequence[ClearableState], *, older_than: float) -> ClearResponse:
        return self._api.send(maintenance_calls.clear_tasks(older_than=older_than, states=states))
