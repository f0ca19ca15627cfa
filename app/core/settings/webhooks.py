"""Settings of inbound webhooks: the secrets that verify them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Json, SecretStr, model_validator
from pydantic_settings import NoDecode

from laneway.platform.settings.base import Group


class SourceSecret(BaseModel):
    """How a generic webhook source signs: its secret, and the header that carries the signature."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    secret: SecretStr = Field(min_length=1)
    header: str = Field("X-Signature-256", pattern=r"^[A-Za-z0-9-]+$")

    @model_validator(mode="before")
    @classmethod
    def _accept_plain_secret(cls, value: Any) -> Any:
        return {"secret": value} if isinstance(value, str) else value


class WebhookSettings(Group):
    """Secrets of the platforms that send webhooks to us. A source without a secret is refused."""

    facebook_app_secret: SecretStr | None = Field(None, alias="FACEBOOK_APP_SECRET")
    facebook_verify_token: SecretStr | None = Field(None, alias="FACEBOOK_VERIFY_TOKEN")
    google_lead_key: SecretStr | None = Field(None, alias="GOOGLE_LEAD_KEY")
    secrets: Annotated[Json[dict[str, SourceSecret]], NoDecode] = Field(
        {}, alias="WEBHOOK_SECRETS", validate_default=False
    )
