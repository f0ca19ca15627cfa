"""Settings of inbound webhooks: the secrets that verify them, and the mapping of their events to tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, Json, SecretStr, model_validator
from pydantic_settings import NoDecode

from laneway.platform.settings.base import Group, absolute, secret_bytes

SHIPPED_MAPPING: Final = Path(__file__).resolve().parents[2] / "webhooks" / "mapping.yaml"


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
    """Facebook's app secret, which signs requests."""
    facebook_verify_token: SecretStr | None = Field(None, alias="FACEBOOK_VERIFY_TOKEN")
    """The token that Facebook sends to verify a subscription."""
    google_lead_key: SecretStr | None = Field(None, alias="GOOGLE_LEAD_KEY")
    """The key that Google includes in each lead."""
    secrets: Annotated[Json[dict[str, SourceSecret]], NoDecode] = Field(
        {}, alias="WEBHOOK_SECRETS", validate_default=False
    )
    """Other sources, as JSON: `{"source": "secret"}` or `{"source": {"secret": …, "header": …}}`. They sign with HMAC-
    SHA256.
    """
    mapping: Path | None = Field(None, alias="WEBHOOK_MAPPING")
    """The YAML file that says which task follows from which event. Default: `app/webhooks/mapping.yaml`."""

    def own_secrets(self) -> dict[str, bytes]:
        sources = {f"WEBHOOK_SECRETS[{name}]": source.secret for name, source in self.secrets.items()}
        return secret_bytes(
            FACEBOOK_APP_SECRET=self.facebook_app_secret,
            FACEBOOK_VERIFY_TOKEN=self.facebook_verify_token,
            GOOGLE_LEAD_KEY=self.google_lead_key,
            **sources,
        )

    @property
    def mapping_file(self) -> Path:
        """The file with the mapping of events to tasks: WEBHOOK_MAPPING, or the one that ships."""
        return SHIPPED_MAPPING if self.mapping is None else absolute(self.mapping)
