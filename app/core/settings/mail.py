"""Settings of e-mail: the SMTP server, and the recipients of notices."""

from __future__ import annotations

import re
from typing import Final

from pydantic import Field, SecretStr, model_validator

from laneway.platform.settings.base import Group, Port

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
MAX_RECIPIENTS: Final = 20
_ADDRESS = re.compile(r"[^\s@<>,;:\"()\[\]\\\x00-\x1f\x7f]{1,64}@[^\s@<>,;:\"()\\\x00-\x1f\x7f]{1,255}")


class MailSettings(Group):
    """The SMTP server, the sender, and the recipients of e-mail about leads."""

    host: str | None = Field(None, alias="SMTP_HOST", pattern=r"^\S+$")
    """The mail server. Without it no e-mail is sent."""
    given_port: Port | None = Field(None, alias="SMTP_PORT")
    """Its port. Default: 25 without encryption, 587 with STARTTLS, 465 with TLS."""
    user: str | None = Field(None, alias="SMTP_USER")
    """The user of its login."""
    password: SecretStr | None = Field(None, alias="SMTP_PASSWORD")
    """The password of its login."""
    starttls: bool = Field(False, alias="SMTP_STARTTLS")
    """Whether the connection is encrypted by STARTTLS."""
    tls: bool = Field(False, alias="SMTP_TLS")
    """Whether the connection is encrypted from its beginning."""
    timeout: float = Field(15, alias="SMTP_TIMEOUT_SECONDS", gt=0, le=120)
    """Seconds that the mail server has to respond."""
    sender: str | None = Field(None, alias="MAIL_FROM")
    """The sender of e-mail."""
    notify: str | None = Field(None, alias="CRM_NOTIFY_TO")
    """The recipients of an e-mail about each new lead; addresses separated by commas."""
    notify_updates: bool = Field(True, alias="CRM_NOTIFY_UPDATES")
    """Whether changes of a lead are mailed, too."""

    @property
    def port(self) -> int:
        """`SMTP_PORT`, or the standard port: 465 with TLS, 587 with STARTTLS, else 25."""
        return self.given_port or (465 if self.tls else 587 if self.starttls else 25)

    @property
    def notify_to(self) -> tuple[str, ...]:
        """The addresses in `CRM_NOTIFY_TO`."""
        return _addresses(self.notify)

    @model_validator(mode="after")
    def _check_addresses(self) -> MailSettings:
        if self.sender is not None and not _ADDRESS.fullmatch(self.sender):
            raise ValueError("MAIL_FROM must be one plain address, such as crm@example.com")
        if not all(_ADDRESS.fullmatch(to) for to in self.notify_to) or len(self.notify_to) > MAX_RECIPIENTS:
            raise ValueError(f"CRM_NOTIFY_TO must be at most {MAX_RECIPIENTS} plain addresses, separated by commas")
        return self

    @model_validator(mode="after")
    def _check_combinations(self) -> MailSettings:
        if self.notify_to and not self.host:
            raise ValueError("CRM_NOTIFY_TO needs SMTP_HOST: e-mail needs a mail server")
        if self.host and not self.sender:
            raise ValueError("SMTP_HOST needs MAIL_FROM: the sender of every e-mail")
        if self.tls and self.starttls:
            raise ValueError("SMTP_TLS and SMTP_STARTTLS exclude each other: a connection is encrypted once")
        if bool(self.user) != bool(self.password):
            raise ValueError("SMTP_USER and SMTP_PASSWORD need each other")
        if self.user and not (self.tls or self.starttls or self.host in LOOPBACK):
            raise ValueError("SMTP_PASSWORD needs SMTP_STARTTLS or SMTP_TLS: otherwise it is sent unencrypted")
        return self


def _addresses(value: str | None) -> tuple[str, ...]:
    parts = (part.strip() for part in (value or "").split(","))
    return tuple(dict.fromkeys(part for part in parts if part))
