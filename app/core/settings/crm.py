"""Settings of leads: the CRM that is told of them, and the e-mail about them."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, Json, SecretStr, StringConstraints, field_validator, model_validator
from pydantic_settings import NoDecode

from laneway.platform.settings.base import Group, Port

LOOPBACK = ("localhost", "127.0.0.1", "::1")
MOST_RECIPIENTS = 20
_ADDRESS = re.compile(r"[^\s@<>,;:\"()\[\]\\\x00-\x1f\x7f]{1,64}@[^\s@<>,;:\"()\\\x00-\x1f\x7f]{1,255}")
DottedPath = Annotated[str, StringConstraints(pattern=r"^[^.\s]+(\.[^.\s]+){0,7}$", max_length=200)]
Request = Annotated[str, StringConstraints(pattern=r"^(POST|PUT|PATCH) /[^\s?#]*$", max_length=500)]
"""A method and a path below `CRM_BASE_URL`."""


class CrmSettings(Group):
    """Which CRM is told of leads: the local one, or a REST API at `CRM_BASE_URL`."""

    base_url: str | None = Field(None, alias="CRM_BASE_URL", pattern=r"^https?://[^\s?#]+$")
    token: SecretStr | None = Field(None, alias="CRM_TOKEN")
    auth_header: str = Field(
        "Authorization: Bearer {token}",
        alias="CRM_AUTH_HEADER",
        pattern=r"^[A-Za-z0-9-]+: [\x20-\x7e]*\{token\}[\x20-\x7e]*$",
    )
    create_request: Request = Field("POST /leads", alias="CRM_CREATE_REQUEST")
    update_request: Request = Field("PATCH /leads/{id}", alias="CRM_UPDATE_REQUEST")
    id_path: DottedPath = Field("id", alias="CRM_ID_PATH")
    mapping: Annotated[Json[dict[DottedPath, DottedPath]], NoDecode] = Field(
        {}, alias="CRM_FIELD_MAPPING", validate_default=False
    )
    timeout: float = Field(10, alias="CRM_TIMEOUT_SECONDS", gt=0, le=120)

    @field_validator("token")
    @classmethod
    def _fit_for_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"[\x21-\x7e]+", value.get_secret_value()):
            raise ValueError("CRM_TOKEN must be visible ASCII characters without spaces: it goes into a header")
        return value

    @model_validator(mode="after")
    def _whole(self) -> CrmSettings:
        if not self.base_url:
            for name, given in (("CRM_TOKEN", self.token), ("CRM_FIELD_MAPPING", self.mapping)):
                if given:
                    raise ValueError(f"{name} needs CRM_BASE_URL: the local CRM takes neither")
            return self
        parts = urlsplit(self.base_url)
        if not parts.hostname or "@" in parts.netloc:
            raise ValueError("CRM_BASE_URL must name a host, and no user or password: those belong into CRM_TOKEN")
        if self.update_request.count("{id}") != 1 or "{id}" in self.create_request:
            raise ValueError("CRM_UPDATE_REQUEST must have {id} once in its path, and CRM_CREATE_REQUEST must not")
        return self

    @model_validator(mode="after")
    def _mapping_fits(self) -> CrmSettings:
        targets = list(self.mapping.values())
        for one in targets:
            if targets.count(one) > 1 or any(other.startswith(f"{one}.") for other in targets):
                raise ValueError(f"CRM_FIELD_MAPPING writes {one!r} twice, or writes both it and a part of it")
        return self


class MailSettings(Group):
    """E-mail through an SMTP server, and who is told of leads."""

    host: str | None = Field(None, alias="SMTP_HOST", pattern=r"^\S+$")
    given_port: Port | None = Field(None, alias="SMTP_PORT")
    user: str | None = Field(None, alias="SMTP_USER")
    password: SecretStr | None = Field(None, alias="SMTP_PASSWORD")
    starttls: bool = Field(False, alias="SMTP_STARTTLS")
    tls: bool = Field(False, alias="SMTP_TLS")
    timeout: float = Field(15, alias="SMTP_TIMEOUT_SECONDS", gt=0, le=120)
    sender: str | None = Field(None, alias="MAIL_FROM")
    notify: str | None = Field(None, alias="CRM_NOTIFY_TO")
    alerts: str | None = Field(None, alias="ALERT_MAIL_TO")
    notify_updates: bool = Field(True, alias="CRM_NOTIFY_UPDATES")

    @property
    def port(self) -> int:
        """`SMTP_PORT`, or the usual one: 465 with TLS, 587 with STARTTLS, else 25."""
        return self.given_port or (465 if self.tls else 587 if self.starttls else 25)

    @property
    def notify_to(self) -> tuple[str, ...]:
        """The addresses in `CRM_NOTIFY_TO`."""
        return _addresses(self.notify)

    @property
    def alerts_to(self) -> tuple[str, ...]:
        """The addresses in `ALERT_MAIL_TO`."""
        return _addresses(self.alerts)

    @property
    def _told(self) -> dict[str, tuple[str, ...]]:
        return {"CRM_NOTIFY_TO": self.notify_to, "ALERT_MAIL_TO": self.alerts_to}

    @model_validator(mode="after")
    def _plain_addresses(self) -> MailSettings:
        if self.sender is not None and not _ADDRESS.fullmatch(self.sender):
            raise ValueError("MAIL_FROM must be one plain address, such as crm@example.com")
        for name, addresses in self._told.items():
            if not all(_ADDRESS.fullmatch(one) for one in addresses) or len(addresses) > MOST_RECIPIENTS:
                raise ValueError(f"{name} must be at most {MOST_RECIPIENTS} plain addresses, with commas between")
        return self

    @model_validator(mode="after")
    def _whole(self) -> MailSettings:
        for name, addresses in self._told.items():
            if addresses and not self.host:
                raise ValueError(f"{name} needs SMTP_HOST: nobody can be told without a mail server")
        if self.host and not self.sender:
            raise ValueError("SMTP_HOST needs MAIL_FROM: the sender of every e-mail")
        if self.tls and self.starttls:
            raise ValueError("SMTP_TLS and SMTP_STARTTLS exclude each other: a connection is encrypted once")
        if bool(self.user) != bool(self.password):
            raise ValueError("SMTP_USER and SMTP_PASSWORD need each other")
        if self.user and not (self.tls or self.starttls or self.host in LOOPBACK):
            raise ValueError("SMTP_PASSWORD needs SMTP_STARTTLS or SMTP_TLS: it would go over the network readable")
        return self


def _addresses(given: str | None) -> tuple[str, ...]:
    parts = (part.strip() for part in (given or "").split(","))
    return tuple(dict.fromkeys(part for part in parts if part))
