"""Settings of people: who may log in, by which provider or proxy, with which role, and how sessions are signed."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from laneway.platform.settings.base import Group

SHORTEST_SECRET: Final = 16
"""Bytes."""
_HEADER = re.compile(r"[A-Za-z0-9-]{1,100}")


class PeopleSettings(Group):
    """People: the identity provider or proxy that names them, their roles, and their sessions."""

    public_url: str | None = Field(None, alias="PUBLIC_URL")
    """The address at which browsers reach the API, such as `https://tasks.example.com`. Default: `http://` with
    `API_HOST` and `API_PORT`.
    """
    flower_public_url: str | None = Field(None, alias="FLOWER_PUBLIC_URL")
    """The address at which browsers reach Flower. Default: `http://` with `FLOWER_HOST` and `FLOWER_PORT`."""
    issuer: str | None = Field(None, alias="OIDC_ISSUER")
    """The address of an OpenID Connect provider; it serves `/.well-known/openid-configuration` below it."""
    client_id: str | None = Field(None, alias="OIDC_CLIENT_ID")
    """The id of this platform at the provider. Its redirect address is `PUBLIC_URL/login/callback`."""
    client_secret: SecretStr | None = Field(None, alias="OIDC_CLIENT_SECRET")
    """The secret of this platform at the provider."""
    oidc_scopes: str = Field("openid email profile", alias="OIDC_SCOPES", pattern=r"^openid( [\x21-\x7e]+)*$")
    """The scopes that are asked of the provider, separated by spaces."""
    groups_claim: str = Field("groups", alias="OIDC_GROUPS_CLAIM", min_length=1)
    """The claim of the id token with the groups of a person."""
    proxy_addresses: str | None = Field(None, alias="PROXY_ADDRESSES")
    """Addresses or networks of a proxy that logs people in, separated by commas. Its headers are believed only from
    there.
    """
    proxy_user_header: str | None = Field(None, alias="PROXY_USER_HEADER")
    """The header in which the proxy names the person, such as `X-Forwarded-Email`."""
    proxy_groups_header: str | None = Field(None, alias="PROXY_GROUPS_HEADER")
    """The header in which the proxy names the person's groups, separated by commas."""
    viewers: str | None = Field(None, alias="ROLE_VIEWERS")
    """Who may read: e-mail addresses and groups, separated by commas."""
    operators: str | None = Field(None, alias="ROLE_OPERATORS")
    """Who may also submit, cancel and retry tasks, and operate queues, dead letters and webhooks."""
    admins: str | None = Field(None, alias="ROLE_ADMINS")
    """Who may do everything."""
    viewer_scopes: str | None = Field(None, alias="ROLE_VIEWER_SCOPES")
    """Further scopes of viewers, such as those of the application; separated by commas."""
    operator_scopes: str | None = Field(None, alias="ROLE_OPERATOR_SCOPES")
    """Further scopes of operators."""
    session_secret: SecretStr | None = Field(None, alias="SESSION_SECRET")
    """The secret that signs the cookies of sessions. Default: a generated one, in `DATA_DIR/session-secret`."""
    session_secret_previous: SecretStr | None = Field(None, alias="SESSION_SECRET_PREVIOUS")
    """The secret before this one. Sessions that it signed go on until they end."""
    session_hours: float = Field(12, alias="SESSION_HOURS", gt=0, le=720)
    """Hours after which a person has to log in again."""
    session_check_minutes: float = Field(30, alias="SESSION_CHECK_MINUTES", ge=1, le=43_200)
    """Minutes after which the identity provider is asked again who a person is. A role that was taken away, or a person
    who was disabled there, ends within this time.
    """
    flower_writes: bool = Field(False, alias="FLOWER_ALLOW_WRITES")
    """Whether operators and admins may cancel tasks and change workers in Flower. Viewers only read, in any case."""

    @model_validator(mode="after")
    def _complete(self) -> PeopleSettings:
        _check_together({"PROXY_ADDRESSES": self.proxy_addresses, "PROXY_USER_HEADER": self.proxy_user_header})
        _check_together(
            {
                "OIDC_ISSUER": self.issuer,
                "OIDC_CLIENT_ID": self.client_id,
                "OIDC_CLIENT_SECRET": self.client_secret,
            }
        )
        if self.asks_people and not (self.viewers or self.operators or self.admins):
            raise ValueError("ROLE_VIEWERS, ROLE_OPERATORS and ROLE_ADMINS are empty: nobody could log in")
        return self

    @model_validator(mode="after")
    def _valid(self) -> PeopleSettings:
        addresses = {
            "PUBLIC_URL": self.public_url,
            "FLOWER_PUBLIC_URL": self.flower_public_url,
            "OIDC_ISSUER": self.issuer,
        }
        for setting, url in addresses.items():
            if url is not None and not is_web_address(url):
                raise ValueError(f"{setting} must be an address such as https://host, without query and login")
        if self.issuer and not is_private_enough(self.issuer):
            raise ValueError("OIDC_ISSUER must start with https://, because it decides who people are")
        for setting, header in {
            "PROXY_USER_HEADER": self.proxy_user_header,
            "PROXY_GROUPS_HEADER": self.proxy_groups_header,
        }.items():
            if header is not None and not _HEADER.fullmatch(header):
                raise ValueError(f"{setting} is not the name of a header")
        for setting, secret in {
            "SESSION_SECRET": self.session_secret,
            "SESSION_SECRET_PREVIOUS": self.session_secret_previous,
        }.items():
            if secret is not None and len(secret.get_secret_value().encode()) < SHORTEST_SECRET:
                raise ValueError(f"{setting} must have at least {SHORTEST_SECRET} bytes")
        _ = self.proxy_networks
        return self

    @property
    def asks_people(self) -> bool:
        """True when a provider or a proxy says who people are."""
        return bool(self.issuer or self.proxy_user_header)

    @property
    def public_host(self) -> str | None:
        """The host in `PUBLIC_URL`."""
        return urlsplit(self.public_url).hostname if self.public_url else None

    @property
    def proxy_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks in `PROXY_ADDRESSES`. Raises ValueError."""
        try:
            return tuple(ip_network(text) for text in names_in(self.proxy_addresses))
        except ValueError as error:
            raise ValueError(f"PROXY_ADDRESSES: {error}") from None


def names_in(text: str | None) -> tuple[str, ...]:
    """The names in a text that separates them by commas."""
    return tuple(name for part in (text or "").split(",") if (name := part.strip()))


def is_web_address(url: str) -> bool:
    """Whether a text is an http address with a host, and without login, query and fragment."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    extra = parts.query or parts.fragment or "@" in parts.netloc
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not extra and url.isprintable()


def is_private_enough(url: str) -> bool:
    """Whether nobody on the network between can change what this address answers: https, or this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        return parts.scheme == "https" or host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _check_together(settings: dict[str, object]) -> None:
    """Raise ValueError if only some of these settings are given."""
    missing = [name for name, value in settings.items() if not value]
    if missing and len(missing) < len(settings):
        given = next(name for name, value in settings.items() if value)
        raise ValueError(f"{given} needs {' and '.join(missing)}")
