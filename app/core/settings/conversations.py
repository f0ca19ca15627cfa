"""Settings of conversations: which responder writes the replies, and when customers are reminded."""

from __future__ import annotations

from pydantic import Field, SecretStr, model_validator

from laneway.platform.settings.base import Group
from laneway.platform.settings.plaintext import plain_host


class ResponderSettings(Group):
    """The responder: the offline one, or an OpenAI-compatible endpoint."""

    base_url: str | None = Field(None, alias="OPENAI_BASE_URL", pattern=r"^https?://")
    """An OpenAI-compatible endpoint that writes replies. Without it, replies consist of passages of the documents."""
    api_key: SecretStr | None = Field(None, alias="OPENAI_API_KEY")
    """The key of the endpoint."""
    model: str | None = Field(None, alias="OPENAI_MODEL")
    """The model that writes replies."""
    timeout: float = Field(30, alias="OPENAI_TIMEOUT_SECONDS", gt=0, le=300)
    """Seconds that the endpoint has to respond."""
    reply_timeout: float = Field(10, alias="REPLY_TIMEOUT_SECONDS", gt=0, le=120)
    """Seconds that a request waits for a reply if its caller asks for the reply at once."""
    follow_up_hours: float = Field(24, alias="FOLLOW_UP_AFTER_HOURS", gt=0)
    """Hours without a message from the customer after which a follow-up is sent."""

    def exposed(self) -> dict[str, str]:
        host = plain_host(self.base_url) if self.api_key else None
        return {"OPENAI_BASE_URL": host} if host else {}

    @model_validator(mode="after")
    def _require_model(self) -> ResponderSettings:
        if self.base_url and not self.model:
            raise ValueError("OPENAI_BASE_URL needs OPENAI_MODEL")
        return self
