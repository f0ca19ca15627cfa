"""Who may use a platform, asked through its API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from laneway.client import access_calls

if TYPE_CHECKING:
    from laneway.cli.api_source import Api
    from laneway.schemas.token import NewTokenView, TokenRequest, TokenRotation, TokenView


class ApiAccess:
    """Asks the API for tokens."""

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
