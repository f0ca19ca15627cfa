"""The calls about who may use a platform: tokens, sessions, the audit log. Send them with `Client.send`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from laneway.client.call_parts import adapter, given, part
from laneway.client.calls import Call

if TYPE_CHECKING:
    from laneway.schemas.audit_log import AuditLogPage, AuditLogVerification
    from laneway.schemas.session import EndedSessions, EndSessions, SessionList
    from laneway.schemas.token import NewTokenView, TokenRequest, TokenRotation, TokensResponse, TokenView


def tokens() -> Call[TokensResponse]:
    """`GET /tokens`."""
    from laneway.schemas.token import TokensResponse

    return Call("GET", "/tokens", adapter(TokensResponse))


def create_token(request: TokenRequest) -> Call[NewTokenView]:
    """`POST /tokens`. A repeat is refused, because the name is taken."""
    from laneway.schemas.token import NewTokenView

    return Call("POST", "/tokens", adapter(NewTokenView), request.model_dump(mode="json"), repeatable=False)


def rotate_token(name: str, rotation: TokenRotation) -> Call[NewTokenView]:
    """`POST /tokens/{name}/rotate`. A repeat would make another one in the place of the new one."""
    from laneway.schemas.token import NewTokenView

    body = rotation.model_dump(mode="json")
    return Call("POST", f"/tokens/{part(name)}/rotate", adapter(NewTokenView), body, repeatable=False)


def revoke_token(name: str) -> Call[TokenView]:
    """`POST /tokens/{name}/revoke`."""
    from laneway.schemas.token import TokenView

    return Call("POST", f"/tokens/{part(name)}/revoke", adapter(TokenView))


def sessions() -> Call[SessionList]:
    """`GET /sessions`."""
    from laneway.schemas.session import SessionList

    return Call("GET", "/sessions", adapter(SessionList))


def end_sessions(request: EndSessions) -> Call[EndedSessions]:
    """`POST /sessions/end`. A repeat would count only the sessions that began since."""
    from laneway.schemas.session import EndedSessions

    body = request.model_dump(mode="json")
    return Call("POST", "/sessions/end", adapter(EndedSessions), body, repeatable=False)


def audit_log(**parameters: Any) -> Call[AuditLogPage]:
    """`GET /audit-log`: the parameters are those of the API."""
    from laneway.schemas.audit_log import AuditLogPage

    return Call("GET", "/audit-log", adapter(AuditLogPage), params=given(parameters))


def verify_audit_log(*, expected: str | None = None) -> Call[AuditLogVerification]:
    """`GET /audit-log/verification`, which reads every entry. `expected`: `NUMBER:HASH` of one that must be there."""
    from laneway.schemas.audit_log import AuditLogVerification

    params = given({"expected": expected})
    return Call("GET", "/audit-log/verification", adapter(AuditLogVerification), params=params, is_long=True)
