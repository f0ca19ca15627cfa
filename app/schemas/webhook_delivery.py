"""Inbound webhooks: what their tasks are given, and what their senders are answered."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from laneway.platform.payload import Identifier, Payload
from laneway.platform.schemas.task import Response


class StoredDelivery(Payload):
    """Payload of the `process_*_webhook_task`s: a verified request that is stored."""

    delivery_id: Identifier


class WebhookReceipt(Response):
    """The delivery is stored and queued."""

    status: Literal["queued"] = "queued"
    delivery_id: str
    task_id: str
    duplicate: bool = Field(description="True when the same body was delivered before: nothing new was queued")
