"""Groups of settings of the application itself: webhooks that it receives, replies, how long its data is kept."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Json, SecretStr, model_validator
from pydantic_settings import NoDecode

from laneway.platform.settings import Group


class SourceSecret(BaseModel):
    """How one generic webhook source signs: its secret, and the header that carries the signature."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    secret: SecretStr = Field(min_length=1)
    header: str = Field("X-Signature-256", pattern=r"^[A-Za-z0-9-]+$")

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {"secret": value} if isinstance(value, str) else value


class WebhookSettings(Group):
    """Secrets of the platforms that call us."""

    facebook_app_secret: SecretStr | None = Field(None, alias="FACEBOOK_APP_SECRET")
    facebook_verify_token: SecretStr | None = Field(None, alias="FACEBOOK_VERIFY_TOKEN")
    google_lead_key: SecretStr | None = Field(None, alias="GOOGLE_LEAD_KEY")
    secrets: Annotated[Json[dict[str, SourceSecret]], NoDecode] = Field(
        {}, alias="WEBHOOK_SECRETS", validate_default=False
    )


class ResponderSettings(Group):
    """Who writes the replies: the offline responder, or an OpenAI-compatible endpoint."""

    base_url: str | None = Field(None, alias="OPENAI_BASE_URL", pattern=r"^https?://")
    api_key: SecretStr | None = Field(None, alias="OPENAI_API_KEY")
    model: str | None = Field(None, alias="OPENAI_MODEL")
    timeout: float = Field(30, alias="OPENAI_TIMEOUT_SECONDS", gt=0, le=300)
    reply_timeout: float = Field(10, alias="REPLY_TIMEOUT_SECONDS", gt=0, le=120)
    follow_up_hours: float = Field(24, alias="FOLLOW_UP_AFTER_HOURS", gt=0)

    @model_validator(mode="after")
    def _complete(self) -> ResponderSettings:
        if self.base_url and not self.model:
            raise ValueError("OPENAI_BASE_URL needs OPENAI_MODEL")
        return self


class RetentionSettings(Group):
    """How long the application's data is kept, in days."""

    conversations: int = Field(365, alias="RETENTION_DAYS_CONVERSATIONS", ge=1)
    reports: int = Field(180, alias="RETENTION_DAYS_REPORTS", ge=1)
    leads: int = Field(730, alias="RETENTION_DAYS_LEADS", ge=1)
