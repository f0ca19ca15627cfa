"""Tokens of the API, as operators see them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import ConfigDict, Field

from laneway.schemas.model import Model
from laneway.schemas.overlap import A_CENTURY, A_DAY
from laneway.schemas.task import Response
from laneway.schemas.text import Text


class TokenRequest(Model):
    """A new token: its name, and what it may do."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "shop", "scopes": ["tasks:submit"], "expires_seconds": 2_592_000}]},
    )

    name: Text = Field(description="Such as the program that uses it: letters a-z, digits, dots, underscores, hyphens")
    scopes: list[Text] = Field(max_length=1000, description="Scopes, and `tasks:submit:NAME` for single tasks")
    queues: list[Text] | None = Field(None, max_length=1000, description="Only in these queues; null: all")
    names: list[Text] | None = Field(None, max_length=1000, description="Only tasks of these names; null: all")
    tenant: Text | None = Field(None, description="Only tasks of this tenant, whose ids it puts apart; null: no limit")
    expires_seconds: float | None = Field(
        90 * A_DAY, ge=0, le=A_CENTURY, description="It is valid for so long; null: until it is revoked"
    )


class TokenRotation(Model):
    """A new token in the place of one."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"overlap_seconds": 86_400}]})

    overlap_seconds: float = Field(
        A_DAY, ge=0, le=A_CENTURY, description="The token before it is valid for so long, too"
    )
    expires_seconds: float | None = Field(
        None, ge=0, le=A_CENTURY, description="It is valid for so long; null: as long as the one before was"
    )


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


class TokensResponse(Response):
    """The tokens by name, also those that are over."""

    tokens: list[TokenView]
