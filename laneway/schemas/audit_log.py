"""The audit log: responses of the API."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from pydantic import Field

from laneway.schemas.task import Response

ENTRY: Final = r"^[0-9]{1,18}:[0-9a-f]{64}$"
"""Number and hash of an entry."""


class AuditLogView(Response):
    """An action: who did what to which object."""

    seq: int = Field(description="Its number, counted from 1")
    at: datetime
    caller_kind: str = Field(description="token, person, command, task or anonymous")
    caller: str = Field(description="Who it was")
    tenant: str | None
    request_id: str | None
    action: str = Field(description="What was done, such as queue.pause", examples=["queue.pause"])
    object_kind: str = Field(examples=["queue"])
    object_id: str | None = Field(description="The object's id or name; null after the erasure of a person")
    before: dict[str, Any] | None = Field(description="What was there before, as far as it changed")
    after: dict[str, Any] | None = Field(description="What is there since")
    erased: bool = Field(description="Whether object, before and after were erased, because they named a person")
    hash: str = Field(description="SHA-256 of the entry and of the hash of the entry before it")


class AuditLogPage(Response):
    """A page of the audit log, newest first."""

    entries: list[AuditLogView]
    next: int | None = Field(description="The `before` of the next page; null after the last one")


class AuditLogVerification(Response):
    """Whether every entry is as it was written."""

    holds: bool
    entries: int = Field(description="Entries that hold, from the first one on")
    hash: str = Field(description="The hash of the last of them")
    damage: str | None = Field(description="changed, removed, inserted or erased; null if every entry holds")
    entry: int | None = Field(description="The first entry that is not as it was written")
