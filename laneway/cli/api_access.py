"""Who may use a platform, and who did what, asked through its API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from laneway.cli.api_calls import pages
from laneway.client import access_calls

if TYPE_CHECKING:
    from laneway.cli.api_calls import Api
    from laneway.cli.source_parts import AuditLogSelection
    from laneway.schemas.audit_log import AuditLogVerification, AuditLogView
    from laneway.schemas.session import EndedSessions, EndSessions, SessionView
    from laneway.schemas.token import NewTokenView, TokenRequest, TokenRotation, TokenView


class ApiAccess:
    """Asks the API for tokens, sessions and the audit log."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def tokens(self) -> Sequence[TokenView]:
        return self._api.send(access_calls.tokens()).tokens

    def create_token(self, request: TokenRequest) -> NewTokenView:
        return self._api.send(access_calls.create_token(request))

    def rotate_token(self, name: str, rotation: TokenRotation) -> NewTokenView:
        return self._api.send(access_calls.rotate_token(name, rotation))

    def revoke_token(self, name: str) -> TokenView:
        return self._api.send(access_calls.revoke_token(name))

    def sessions(self) -> Sequence[SessionView]:
        return self._api.send(access_calls.sessions()).sessions

    def end_sessions(self, request: EndSessions) -> EndedSessions:
        return self._api.send(access_calls.end_sessions(request))

    def audit_log(self, which: AuditLogSelection, *, limit: int) -> Sequence[AuditLogView]:
        def page(before: int | None, size: int) -> tuple[list[AuditLogView], int | None]:
            found = self._api.send(access_calls.audit_log(**asdict(which), before=before, limit=size))
            return found.entries, found.next

        return pages(page, limit)

    def verify_audit_log(self, *, expected: str | None) -> AuditLogVerification:
        return self._api.send(access_calls.verify_audit_log(expected=expected))
