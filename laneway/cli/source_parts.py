"""The parts of a source that few commands need. A command imports the one that it uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from laneway.schemas.token import NewTokenView, TokenRequest, TokenRotation, TokenView


class Access(Protocol):
    """Who may use a platform."""

    def tokens(self) -> Sequence[TokenView]: ...

    def create_token(self, request: TokenRequest) -> NewTokenView: ...

    def rotate_token(self, name: str, rotation: TokenRotation) -> NewTokenView: ...

    def revoke_token(self, name: str) -> TokenView: ...
