"""Who may use the platform of the project, and who did what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from laneway.cli.api_calls import pages
from laneway.platform.access.logins import session_views
from laneway.platform.access.token_views import create_token, rotate_token, token_view
from laneway.platform.audit_log.audit_log import expected_entry, verification_view
from laneway.platform.db.queries.audit_log import AuditLogFilter
from laneway.schemas.session import EndedSessions

if TYPE_CHECKING:
    from laneway.cli.source_parts import AuditLogSelection
    from laneway.platform.platform import Platform
    from laneway.schemas.audit_log import AuditLogVerification, AuditLogView
    from laneway.schemas.session import EndSessions, SessionView
    from laneway.schemas.token import NewTokenView, TokenRequest, TokenRotation, TokenView


class LocalAccess:
    """Asks the services of the platform for tokens, sessions and the audit log."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def tokens(self) -> Sequence[TokenView]:
        return [token_view(row) for row in self._platform.tokens.listing()]

    def create_token(self, request: TokenRequest) -> NewTokenView:
        return create_token(self._platform.tokens, request)

    def rotate_token(self, name: str, rotation: TokenRotation) -> NewTokenView:
        return rotate_token(self._platform.tokens, name, rotation)

    def revoke_token(self, name: str) -> TokenView:
        return token_view(self._platform.tokens.revoke(name))

    def sessions(self) -> Sequence[SessionView]:
        return session_views(self._platform.people.logins)

    def end_sessions(self, request: EndSessions) -> EndedSessions:
        ended = self._platform.people.logins.end_all(request.person)
        return EndedSessions(person=request.person, ended=ended)

    def audit_log(self, which: AuditLogSelection, *, limit: int) -> Sequence[AuditLogView]:
        selected = AuditLogFilter(
            action=which.action,
            object_id=which.object,
            caller=which.caller,
            request_id=which.request_id,
            since=which.since,
            until=which.until,
        )

        def page(before: int | None, size: int) -> tuple[list[AuditLogView], int | None]:
            found = self._platform.audit_log.page(selected, before=before, limit=size)
            return found.entries, found.next

        return pages(page, limit)

    def verify_audit_log(self, *, expected: str | None) -> AuditLogVerification:
        return verification_view(self._platform.audit_log.verify(expected=expected_entry(expected)))
