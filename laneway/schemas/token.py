"""Tokens of the API, as operators see them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from laneway.schemas.task import Response


class TokenView(Response):
    """One token, without its secret."""

    name: str
    state: Literal["valid", "expired", "revoked"]
    scopes: list[str]
    queues: list[str] | None = Field(description="The queues to which it is bound; null: all")
    names: list[str] | None = Field(description="The names of the tasks to which it is bound; null: all")
    tenant: str | None = Field(description="The tenant to which it is bound; null: none")
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    rotated_at: datetime | None
    overlap_until: datetime | None = Field(description="Until then the token before the last rotation is accepted")
    revoked_at: datetime | None
    used_at: datetime | None = Field(description="When it was last used, to a few minutes")


class NewTokenView(TokenView):
    """A token that was just made. Its secret is shown now, and never again."""

    token: str
