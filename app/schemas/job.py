"""Payloads of the tasks that are not about one conversation: webhooks, analytics, upkeep."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator, Field, model_validator

from app.schemas.task import Identifier, Payload

EARLIEST, LATEST = datetime(1971, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Times further away are mistakes, and their neighbours may be out of Python's reach."""


def _written_out(value: object) -> object:
    if isinstance(value, int | float):
        raise ValueError("must be written out, such as 2026-01-31T00:00:00Z")  # noqa: TRY004  Pydantic wants it so
    return value


def within_reach(moment: datetime) -> datetime:
    """The same, or the nearest time that can be turned into UTC and compared: for filters, which find nothing there."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return EARLIEST if aware < EARLIEST else LATEST if aware > LATEST else moment


Moment = Annotated[AwareDatetime, BeforeValidator(_written_out)]
"""A time with its zone; not a number, of which nobody can tell seconds from milliseconds."""


class StoredDelivery(Payload):
    """Payload of the `process_*_webhook_task`s: a verified request that is stored."""

    delivery_id: Identifier


class OutboundWebhook(Payload):
    """Payload of `send_webhook_response_task`."""

    url: str = Field(max_length=2000, pattern=r"^https?://")
    event: str = Field(min_length=1, max_length=100)
    data: dict[str, Any]
    occurred_at: Moment | None = None
    """When the event happened; without it, when the task was accepted. One task id, one time: it is of the payload."""

    @model_validator(mode="after")
    def _of_these_days(self) -> OutboundWebhook:
        if self.occurred_at and not EARLIEST <= self.occurred_at < LATEST:
            raise ValueError(f"occurred_at must be between {EARLIEST:%Y} and {LATEST:%Y}")
        return self


class BatchAnalysis(Payload):
    """Payload of `batch_conversation_analysis_task`; without ids, every conversation."""

    conversation_ids: list[Identifier] | None = Field(None, max_length=10_000)
    chunk: int = Field(50, ge=1, le=1000)


class ReportPeriod(Payload):
    """Payload of the report tasks: a period, by its ends or by the hours up to now."""

    start: Moment | None = None
    end: Moment | None = None
    hours: int = Field(24, ge=1, le=24 * 366, strict=True)

    @model_validator(mode="after")
    def _in_order(self) -> ReportPeriod:
        for moment in (self.start, self.end):
            if moment and not EARLIEST <= moment < LATEST:
                raise ValueError(f"start and end must be between {EARLIEST:%Y} and {LATEST:%Y}")
        if self.start and self.end and self.start >= self.end:
            raise ValueError("start must be before end")
        return self


class WeekPeriod(ReportPeriod):
    """Payload of `generate_weekly_report`: the last seven days, unless said otherwise."""

    hours: int = Field(7 * 24, ge=1, le=24 * 366, strict=True)


class AlertsOpened(Payload):
    """Payload of `send_alert_mail_task`: alerts that somebody is to be told of, by their ids."""

    alerts: list[int] = Field(max_length=500)


class Nothing(Payload):
    """Payload of tasks that need none."""
