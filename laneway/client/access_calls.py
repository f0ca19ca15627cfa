"""The calls about who may use a platform: tokens. Send them with `Client.send`."""

from __future__ import annotations

from laneway.client.call_parts import adapter, part
from laneway.client.calls import Call
from laneway.schemas.token import NewTokenView, TokenRequest, TokenRotation, TokensResponse, TokenView


def tokens() -> Call[TokensResponse]:
    """`GET /tokens`."""
    return Call("GET", "/tokens", adapter(TokensResponse))


def create_token(request: TokenRequest) -> Call[NewTokenView]:
    """`POST /tokens`. A repeat is refused, because the name is taken."""
    return Call("POST", "/tokens", adapter(NewTokenView), request.model_dump(mode="json"), repeatable=False)


def rotate_token(name: str, rotation: TokenRotation) -> Call[NewTokenView]:
    """`POST /tokens/{name}/rotate`. A repeat would make another one in the place of the new one."""
    body = rotation.model_dump(mode="json")
    return Call("POST", f"/tokens/{part(name)}/rotate", adapter(NewTokenView), body, repeatable=False)


def revoke_token(name: str) -> Call[TokenView]:
    """`POST /tokens/{name}/revoke`."""
    return Call("POST", f"/tokens/{part(name)}/revoke", adapter(TokenView))
