"""The tables of outbound webhooks: receivers, deliveries, and the attempts at them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from laneway.platform.db.models.base import Base, Id
from laneway.platform.db.models.sealed import SealedText


class OutboundEndpoint(Base):
    """A receiver, and the outcomes of the attempts to reach it."""

    __tablename__ = "outbound_endpoints"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    """A digest of the address without user, query and fragment."""
    url: Mapped[str]
    """The same address, cut to the length that is displayed."""
    state: Mapped[str] = mapped_column(String(16), default="enabled")
    """enabled or disabled."""
    consecutive_failures: Mapped[int] = mapped_column(default=0)
    failing_since: Mapped[datetime | None]
    """When the current series of failures began; None: the last attempt succeeded."""
    last_failure_at: Mapped[datetime | None]
    last_success_at: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    reason: Mapped[str | None] = mapped_column(String(16))
    """Why it is disabled: gone, failing, or operator."""
    last_error: Mapped[str | None]
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime] = mapped_column(index=True)
    """When an attempt at a delivery to it last began or was refused."""


class OutboundDelivery(Base):
    """An outbound webhook, from its first attempt on. Its task has the same id, but a retention time of its own."""

    __tablename__ = "outbound_deliveries"
    __table_args__ = (
        Index("ix_outbound_deliveries_endpoint", "endpoint_id", "seq"),
        Index("ix_outbound_deliveries_created", "created_at"),
        Index("ix_outbound_deliveries_touched", "touched_at"),
    )

    seq: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(155), unique=True)
    """The id of its task, which is also its `webhook-id`."""
    endpoint_id: Mapped[str] = mapped_column(String(32))
    url: Mapped[str]
    event: Mapped[str] = mapped_column(String(100))
    body: Mapped[str] = mapped_column(SealedText)
    """What is signed and sent, the same in every attempt."""
    state: Mapped[str] = mapped_column(String(16))
    """The state after the last attempt. While the task is kept, the state of the task is more exact."""
    attempts: Mapped[int] = mapped_column(default=0)
    put_off: Mapped[int] = mapped_column(default=0)
    """How often in a row it was postponed because its endpoint was busy."""
    status: Mapped[int | None]
    """HTTP status of the newest response."""
    error: Mapped[str | None]
    occurred_at: Mapped[datetime]
    created_at: Mapped[datetime]
    touched_at: Mapped[datetime]


class OutboundAttempt(Base):
    """A POST and its outcome. `ended_at` is None while it runs."""

    __tablename__ = "outbound_attempts"
    __table_args__ = (Index("ix_outbound_attempts_running", "endpoint_id", "ended_at"),)

    delivery_id: Mapped[str] = mapped_column(ForeignKey("outbound_deliveries.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(String(32))
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    status: Mapped[int | None]
    duration_ms: Mapped[int | None]
    error_type: Mapped[str | None] = mapped_column(String(200))
    error: Mapped[str | None]
    answer: Mapped[str | None]
    """The first bytes of the response's body, as text."""
    request_headers: Mapped[list[Any]] = mapped_column(default=list)
    """The names of the headers that were sent."""
