"""Dependencies and path parameters of the application's routes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request

from app.services.container import Services
from laneway.api.deps import NO_NULL
from laneway.schemas.payload import Identifier


async def _services(request: Request) -> Services:
    return request.app.state.services


ServicesDep = Annotated[Services, Depends(_services)]
ConversationId = Annotated[Identifier, Path(examples=["conv-42"])]
ReportId = Annotated[str, Path(min_length=1, max_length=155, pattern=NO_NULL, examples=["0b7c"])]
