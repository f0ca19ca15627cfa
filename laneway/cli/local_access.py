"""Who may use the platform of the project."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from laneway.platform.access.token_views import create_token, rotate_token, token_view

if TYPE_CHECKING:
    from laneway.platform.platform import Platform
    from laneway.schemas.token import NewTokenView, TokenRequest, TokenRotation, TokenView


class LocalAccess:
    """Asks the services of the platform for tokens."""

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
