"""Tokens of the API: list, create, rotate and revoke them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from laneway.api.access import requires
from laneway.api.deps import NO_NULL, OnlyKnown, ServicesDep
from laneway.api.errors import problems
from laneway.api.threads import ThreadedRoute
from laneway.platform.access import token_views
from laneway.platform.access.caller import NOBODY, current_caller
from laneway.platform.access.errors import NobodyMakesTokens
from laneway.platform.access.scopes import Scope
from laneway.schemas.token import NewTokenView, TokenRequest, TokenRotation, TokensResponse, TokenView

router = APIRouter(prefix="/tokens", tags=["tokens"], route_class=ThreadedRoute, dependencies=[requires(Scope.ADMIN)])

TokenName = Annotated[str, Path(min_length=1, max_length=200, pattern=NO_NULL, examples=["shop"])]


@router.get("", dependencies=[OnlyKnown], responses=problems())
def list_tokens(services: ServicesDep) -> TokensResponse:
    """List the tokens by name, without their secrets; also those that are over."""
    return TokensResponse(tokens=[token_views.token_view(row) for row in services.tokens.listing()])


@router.post("", status_code=201, response_description="Created", responses=problems(409))
def create_token(body: TokenRequest, services: ServicesDep) -> NewTokenView:
    """Make a token. The response has its secret, which is not shown again."""
    _require_somebody()
    return token_views.create_token(services.tokens, body)


@router.post("/{name}/rotate", responses=problems(404, 409))
def rotate_token(name: TokenName, body: TokenRotation, services: ServicesDep) -> NewTokenView:
    """Make a new token in the place of one. The one before is accepted until the overlap is over."""
    _require_somebody()
    return token_views.rotate_token(services.tokens, name, body)


@router.post("/{name}/revoke", responses=problems(404))
def revoke_token(name: TokenName, services: ServicesDep) -> TokenView:
    """End a token now. Other processes notice it within 2 seconds."""
    return token_views.token_view(services.tokens.revoke(name))


def _require_somebody() -> None:
    """Raise NobodyMakesTokens without authentication: the token would still be valid after it is switched on."""
    caller = current_caller()
    if (caller.kind, caller.scopes) == (NOBODY.kind, NOBODY.scopes):
        raise NobodyMakesTokens
