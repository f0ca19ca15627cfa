"""What operators do with many tasks at once, asked through the API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from laneway.client import maintenance_calls

if TYPE_CHECKING:
    from laneway.cli.api_calls import Api
    from laneway.schemas.audit import AuditView
    from laneway.schemas.bulk import BulkActionView, TasksActionResponse, TaskSelection, UndoResponse
    from laneway.schemas.choices import ClearableState
    from laneway.schemas.history import ClearResponse
    from laneway.schemas.maintenance import CleanupRequest, CleanupResponse, FlushResponse, RetentionView


class ApiMaintenance:
    """Asks the API to do it."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def clear(self, states: Sequence[ClearableState], *, older_than: float) -> ClearResponse:
        return self._api.send(maintenance_calls.clear_tasks(older_than=older_than, states=states))

    def flush(self, queue: str, *, dry_run: bool) -> FlushResponse:
        return self._api.send(maintenance_calls.flush_queue(queue, dry_run=dry_run))

    def take_in(self, queue: str) -> int:
        return self._api.send(maintenance_calls.take_in_tasks(queue)).taken

    def clean_up(self, request: CleanupRequest) -> CleanupResponse:
        return self._api.send(maintenance_calls.clean_up(request))

    def preview_cleanup(self, request: CleanupRequest) -> RetentionView:
        return self._api.send(maintenance_calls.preview_cleanup(request))

    def audit(self, *, repair: bool) -> AuditView:
        return self._api.send(maintenance_calls.audit_tasks(repair=repair))

    def change_tasks(self, action: str, selected: TaskSelection) -> TasksActionResponse:
        return self._api.send(maintenance_calls.change_tasks(action, selected))

    def bulk_actions(self) -> Sequence[BulkActionView]:
        return self._api.send(maintenance_calls.bulk_actions()).actions

    def undo(self, action: str) -> UndoResponse:
        return self._api.send(maintenance_calls.undo_bulk_action(action))
