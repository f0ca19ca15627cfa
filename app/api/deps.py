"""What routes are given."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request

from app.schemas.task import Identifier
from app.services.container import Services


def _services(request: Request) -> Services:
    return request.app.state.services


ServicesDep = Annotated[Services, Depends(_services)]
ConversationId = Annotated[Identifier, Path(examples=["conv-42"])]
NO_NULL = r"^[^\x00]+$"
"""What PostgreSQL can compare ids with."""
TaskId = Annotated[str, Path(min_length=1, max_length=155, pattern=NO_NULL, examples=["message:5f0c"])]
ReportId = Annotated[str, Path(min_length=1, max_length=155, pattern=NO_NULL, examples=["0b7c"])]
