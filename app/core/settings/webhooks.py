"""Settings of inbound webhooks: the secrets that verify them, and the mapping of their events to tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, Json, SecretStr, model_validator
from pydantic_settings import NoDecode

from laneway.platform.settings.base import Group, absolute, secret_bytes

SHIPPED_MAPPING: Final = Path(__file__).resolve().parents[2] / "webhooks" / "mapping.yaml"


class SourceSecret(BaseModel):
    """How a generic webhook source signs: its secret, and the header that carries the signature.

    `previous` is the secret before this one, which is accepted as well. With `timestamp_header` the source signs
    `TIMESTAMP.BODY`, and times that are more than `tolerance` seconds away are refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    secret: SecretStr = Field(min_length=1)
    previous: SecretStr | None = Field(None, min_length=1)
    header: str = Field("X-Signature-256", pattern=r"^[A-Za-z0-9-]+$")
    timestamp_header: str | None = Field(None, pattern=r"^[A-Za-z0-9-]+$")
    tolerance: float = Field(300, gt=0, le=86_400)

    @model_validator(mode="after")
    def _require_timestamp(self) -> SourceSecret:
        if "tolerance" in self.model_fields_set and self.timestamp_header is None:
            raise ValueError("tolerance needs timestamp_header: the source must sign its time")
        return self

    @model_validator(mode="before")
    @classmethod
    def _accept_plain_secret(cls, value: Any) -> Any:
        return {"secret": value} if isinstance(value, str) else value


class WebhookSettings(Group):
    """Secrets of the platforms that send webhooks to us. A source without a secret is refused."""

    facebook_app_secret: SecretStr | None = Field(None, alias="FACEBOOK_APP_SECRET")
    """Facebook's app secret, which signs requests."""
    facebook_app_secret_previous: SecretStr | None = Field(None, alias="FACEBOOK_APP_SECRET_PREVIOUS")
    """The app secret before this one. It is accepted as well, while Facebook changes to the new one."""
    facebook_verify_token: SecretStr | None = Field(None, alias="FACEBOOK_VERIFY_TOKEN")
    """The token that Facebook sends to verify a subscription."""
    google_lead_key: SecretStr | None = Field(None, alias="GOOGLE_LEAD_KEY")
    """The key that Google includes in each lead."""
    google_lead_key_previous: SecretStr | None = Field(None, alias="GOOGLE_LEAD_KEY_PREVIOUS")
    """The key before this one. It is accepted as well, while the lead forms change to the new one."""
    secrets: Annotated[Json[dict[str, SourceSecret]], NoDecode] = Field(
        {}, alias="WEBHOOK_SECRETS", validate_default=False
    )
    """Other sources, as JSON: `{"source": "secret"}` or `{"source": {"secret": …, "previous": …, "header": …,
    "timestamp_header": …, "tolerance": …}}`. They sign with HMAC-SHA256.
    """
    mapping: Path | None = Field(None, alias="WEBHOOK_MAPPING")
    """The YAML file that says which task follows from which event. Default: `app/webhooks/mapping.yaml`."""

    @model_validator(mode="after")
    def _require_present_ones(self) -> WebhookSettings:
        for name, present, previous in (
            ("FACEBOOK_APP_SECRET", self.facebook_app_secret, self.facebook_app_secret_previous),
            ("GOOGLE_LEAD_KEY", self.google_lead_key, self.google_lead_key_previous),
        ):
            if previous and not present:
                raise ValueError(f"{name}_PREVIOUS needs {name}, the one that replaces it")
        return self

    def own_secrets(self) -> dict[str, bytes]:
        sources = {f"WEBHOOK_SECRETS[{name}]": source.secret for name, source in self.secrets.items()}
        before = {f"WEBHOOK_SECRETS[{name}].previous": source.previous for name, source in self.secrets.items()}
        return secret_bytes(
            FACEBOOK_APP_SECRET=self.facebook_app_secret,
            FACEBOOK_APP_SECRET_PREVIOUS=self.facebook_app_secret_previous,
            FACEBOOK_VERIFY_TOKEN=self.facebook_verify_token,
            GOOGLE_LEAD_KEY=self.google_lead_key,
            GOOGLE_LEAD_KEY_PREVIOUS=self.google_lead_key_previous,
            **sources,
            **before,
        )

    @property
    def mapping_file(self) -> Path:
        """The file with the mapping of events to tasks: WEBHOOK_MAPPING, or the one that ships."""
        return SHIPPED_MAPPING if self.mapping is None else absolute(self.mapping)
