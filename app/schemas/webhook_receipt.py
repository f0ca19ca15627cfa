"""What a webhook's sender is answered."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.schemas.task import Answer


class WebhookReceipt(Answer):
    """The delivery is stored and queued."""

    status: Literal["queued"] = "queued"
    delivery_id: str
    task_id: str
    duplicate: bool = Field(description="True when the same body was delivered before: nothing new was queued")
