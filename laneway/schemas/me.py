"""Who asks, as the API answers it."""

from __future__ import annotations

from pydantic import Field

from laneway.schemas.model import Model


class MeResponse(Model):
    """The caller of this request, and what the caller may do."""

    kind: str = Field(examples=["person"])
    name: str = Field(examples=["ada@example.com"])
    scopes: list[str] = Field(examples=[["tasks:read"]])
    tenant: str | None = None
    queues: list[str] | None = None
    csrf_token: str | None = Field(
        None, description="For a person: what each write must carry in the header X-CSRF-Token"
    )
