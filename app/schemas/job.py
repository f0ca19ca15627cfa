"""Payloads of the tasks that are not about one conversation: webhooks, analytics, upkeep."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field, model_validator

from app.schemas.task import Identifier, Payload


class StoredDelivery(Payload):
    """Payload of the `process_*_webhook_task`s: a verified request that is stored."""

    delivery_id: Identifier


class OutboundWebhook(Payload):
    """Payload of `send_webhook_response_task`."""

    url: str = Field(max_length=2000, pattern=r"^https?://")
    event: str = Field(min_length=1, max_length=100)
    data: dict[str, Any]


class BatchAnalysis(Payload):
    """Payload of `batch_conversation_analysis_task`; without ids, every conversation."""

    conversation_ids: list[Identifier] | None = Field(None, max_length=10_000)
    chunk: int = Field(50, ge=1, le=1000)


class ReportPeriod(Payload):
    """Payload of the report tasks: a period, by its ends or by the hours up to now."""

    start: datetime | None = None
    end: datetime | None = None
    hours: int = Field(24, ge=1, le=24 * 366)

    @model_validator(mode="after")
    def _in_order(self) -> ReportPeriod:
        for moment in (self.start, self.end):
            if moment and moment.tzinfo is None:
                raise ValueError("start and end need a time zone, such as 2026-01-31T00:00:00Z")
        if self.start and self.end and self.start >= self.end:
            raise ValueError("start must be before end")
        return self


class Nothing(Payload):
    """Payload of tasks that need none."""
