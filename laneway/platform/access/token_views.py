"""What is asked for tokens, and the views of tokens that API, console and command line show."""

from __future__ import annotations

from datetime import timedelta

from laneway.platform.access.token_rights import TokenRights
from laneway.platform.access.tokens import NewToken, Tokens, state_of
from laneway.platform.db.models import AccessToken
from laneway.schemas.token import NewTokenView, TokenRequest, TokenRotation, TokenView


def create_token(tokens: Tokens, request: TokenRequest) -> NewTokenView:
    """Make a token. Raises InvalidToken, TokenExists."""
    rights = TokenRights(
        scopes=frozenset(request.scopes),
        queues=None if request.queues is None else frozenset(request.queues),
        names=None if request.names is None else frozenset(request.names),
        tenant=request.tenant,
    )
    return new_token_view(tokens.create(request.name, rights, expires=_span(request.expires_seconds)))


def rotate_token(tokens: Tokens, name: str, rotation: TokenRotation) -> NewTokenView:
    """Make a new token in the place of one. Raises UnknownToken, TokenRevoked, InvalidToken."""
    overlap = timedelta(seconds=rotation.overlap_seconds)
    return new_token_view(tokens.rotate(name, overlap=overlap, expires=_span(rotation.expires_seconds)))


def token_view(row: AccessToken) -> TokenView:
    """A token without its secret."""
    return TokenView.model_validate(_fields(row))


def new_token_view(made: NewToken) -> NewTokenView:
    """A token with its secret."""
    return NewTokenView.model_validate({**_fields(made.row), "token": made.token})


def _fields(row: AccessToken) -> dict[str, object]:
    same = {name: getattr(row, name) for name in TokenView.model_fields if hasattr(row, name)}
    return {**same, "state": state_of(row), "overlap_until": row.old_until}


def _span(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
