"""The parts of a source that few commands need. A command imports only the one that it uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from laneway.schemas.audit import AuditView
    from laneway.schemas.audit_log import AuditLogVerification, AuditLogView
    from laneway.schemas.bulk import BulkActionView, TasksActionResponse, TaskSelection, UndoResponse
    from laneway.schemas.choices import ClearableState, EndpointState, TaskState
    from laneway.schemas.history import ClearResponse
    from laneway.schemas.maintenance import CleanupRequest, CleanupResponse, FlushResponse, RetentionView
    from laneway.schemas.outbound_destination import (
        DestinationRequest,
        DestinationView,
        EventSubscription,
        NewSecretResponse,
    )
    from laneway.schemas.outbound_webhook import (
        DeliveryDetailsView,
        DeliveryView,
        EndpointView,
        ReplayRequest,
        ReplayResponse,
    )
    from laneway.schemas.session import EndedSessions, EndSessions, SessionView
    from laneway.schemas.task import TaskHandle
    from laneway.schemas.token import NewTokenView, TokenRequest, TokenRotation, TokenView


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLogSelection:
    """Selects entries of the audit log; a field that is not set selects all."""

    action: str | None = None
    object: str | None = None
    caller: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySelection:
    """Selects deliveries of outbound webhooks; a field that is not set selects all."""

    endpoint: str | None = None
    event: str | None = None
    states: tuple[TaskState, ...] = ()
    since: datetime | None = None
    until: datetime | None = None


class Access(Protocol):
    """Who may use a platform, and who did what."""

    def tokens(self) -> Sequence[TokenView]: ...

    def create_token(self, request: TokenRequest) -> NewTokenView: ...

    def rotate_token(self, name: str, rotation: TokenRotation) -> NewTokenView: ...

    def revoke_token(self, name: str) -> TokenView: ...

    def sessions(self) -> Sequence[SessionView]: ...

    def end_sessions(self, request: EndSessions) -> EndedSessions: ...

    def audit_log(self, which: AuditLogSelection, *, limit: int) -> Sequence[AuditLogView]: ...

    def verify_audit_log(self, *, expected: str | None) -> AuditLogVerification:
        """Check the audit log. `expected`: `NUMBER:HASH` of an entry that must be there."""
        ...


class Webhooks(Protocol):
    """Outbound webhooks: deliveries, receivers, destinations."""

    def deliveries(self, which: DeliverySelection, *, limit: int) -> Sequence[DeliveryView]: ...

    def delivery(self, id: str) -> DeliveryDetailsView: ...

    def replay(self, id: str) -> TaskHandle: ...

    def replay_many(self, request: ReplayRequest) -> ReplayResponse: ...

    def endpoints(self, *, state: EndpointState | None, url: str | None, limit: int) -> Sequence[EndpointView]: ...

    def enable(self, id: str) -> EndpointView: ...

    def disable(self, id: str) -> EndpointView: ...

    def destinations(self, *, after: str, limit: int) -> Sequence[DestinationView]: ...

    def register(self, request: DestinationRequest) -> NewSecretResponse: ...

    def rotate(self, name: str, *, overlap: int) -> NewSecretResponse: ...

    def remove(self, name: str) -> None: ...

    def subscribe(self, name: str, subscription: EventSubscription) -> DestinationView: ...

    def unsubscribe(self, name: str) -> DestinationView: ...

    def reencrypt(self) -> int: ...


class Maintenance(Protocol):
    """What operators do with many tasks at once."""

    def clear(self, states: Sequence[ClearableState], *, older_than: float) -> ClearResponse:
        """Delete tasks that ended more than `older_than` seconds ago, up to the limit of one call."""
        ...

    def flush(self, queue: str, *, dry_run: bool) -> FlushResponse: ...

    def take_in(self, queue: str) -> int: ...

    def clean_up(self, request: CleanupRequest) -> CleanupResponse: ...

    def preview_cleanup(self, request: CleanupRequest) -> RetentionView: ...

    def audit(self, *, repair: bool) -> AuditView: ...

    def change_tasks(self, action: str, selected: TaskSelection) -> TasksActionResponse:
        """`cancel`, `retry`, `replay` or `reprioritise` the selected tasks, up to the limit of one call."""
        ...

    def bulk_actions(self) -> Sequence[BulkActionView]: ...

    def undo(self, action: str) -> UndoResponse:
        """Undo an action, up to the limit of one call."""
        ...
