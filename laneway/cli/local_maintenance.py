"""What operators do with many tasks of the project's platform at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from laneway.platform.operations import operator_actions
from laneway.schemas.choices import TaskState

if TYPE_CHECKING:
    from laneway.platform.platform import Platform
    from laneway.schemas.audit import AuditView
    from laneway.schemas.bulk import BulkActionView, TasksActionResponse, TaskSelection, UndoResponse
    from laneway.schemas.choices import ClearableState
    from laneway.schemas.history import ClearResponse
    from laneway.schemas.maintenance import CleanupRequest, CleanupResponse, FlushResponse, RetentionView


class LocalMaintenance:
    """Lets the services of the platform do it."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def clear(self, states: Sequence[ClearableState], *, older_than: float) -> ClearResponse:
        return self._platform.retention.clear([TaskState(state.value) for state in states], older_than=older_than)

    def flush(self, queue: str, *, dry_run: bool) -> FlushResponse:
        return operator_actions.flush(self._platform, queue, dry_run=dry_run)

    def take_in(self, queue: str) -> int:
        return operator_actions.take_in(self._platform, queue)

    def clean_up(self, request: CleanupRequest) -> CleanupResponse:
        return operator_actions.clean_up(self._platform, tasks_older_than=request.tasks_older_than)

    def preview_cleanup(self, request: CleanupRequest) -> RetentionView:
        return operator_actions.preview_cleanup(self._platform, tasks_older_than=request.tasks_older_than)

    def audit(self, *, repair: bool) -> AuditView:
        return operator_actions.audit(self._platform, repair=repair)

    def change_tasks(self, action: str, selected: TaskSelection) -> TasksActionResponse:
        return getattr(self._platform.bulk_tasks, action)(selected)

    def bulk_actions(self) -> Sequence[BulkActionView]:
        return self._platform.bulk_undo.listing()

    def undo(self, action: str) -> UndoResponse:
        return self._platform.bulk_undo.undo(action)
