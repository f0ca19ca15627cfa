"""Turns tokens into the views that the console and the command line show."""

from __future__ import annotations

from laneway.platform.access.tokens import NewToken, state_of
from laneway.platform.db.models import AccessToken
from laneway.schemas.token import NewTokenView, TokenView


def token_view(row: AccessToken) -> TokenView:
    """A token without its secret."""
    return TokenView.model_validate(_fields(row))


def new_token_view(made: NewToken) -> NewTokenView:
    """A token with its secret."""
    return NewTokenView.model_validate({**_fields(made.row), "token": made.token})


def _fields(row: AccessToken) -> dict[str, object]:
    same = {name: getattr(row, name) for name in TokenView.model_fields if hasattr(row, name)}
    return {**same, "state": state_of(row), "overlap_until": row.old_until}
