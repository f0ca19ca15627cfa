"""Logs people in by an OpenID Connect provider: authorization code with PKCE, state and nonce. Authlib does it.

The provider's keys, its addresses and its algorithms come from its discovery document, which must name the configured
issuer. Only asymmetric algorithms are accepted for the id token.
"""

from __future__ import annotations

import hmac
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.base_client.sync_app import OAuth2Base, OAuth2Mixin
from authlib.integrations.base_client.sync_openid import OpenIDMixin
from authlib.integrations.httpx_client import OAuth2Client
from joserfc.errors import JoseError

from laneway.platform.access.roles import Person
from laneway.platform.errors import PlatformError, UpstreamError
from laneway.platform.logging import logger
from laneway.platform.settings.people import PeopleSettings

log = logger(__name__)

SECONDS: Final = 3.0
"""Seconds that the provider has for each answer."""
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
SERVICE: Final = "The identity provider"


class LoginRefused(PlatformError):
    """Somebody could not be logged in."""

    status, title = 403, "Login refused"

    template = "The login was refused: {reason}"
    reason: str


@dataclass(frozen=True, slots=True)
class LoginStart:
    """The beginning of a login: where the browser goes, and what it must show when it comes back."""

    url: str
    noted: dict[str, str]


class Provider:
    """An identity provider."""

    def __init__(self, settings: PeopleSettings, *, redirect: str) -> None:
        """`redirect`: the address to which the provider sends people back."""
        self._settings, self._redirect = settings, redirect
        self._issuer = (settings.issuer or "").rstrip("/")
        secret = settings.client_secret
        self._client = _Client(
            None,
            client_id=settings.client_id,
            client_secret=secret.get_secret_value() if secret else None,
            server_metadata_url=f"{self._issuer}/.well-known/openid-configuration",
            client_kwargs={
                "scope": settings.oidc_scopes,
                "code_challenge_method": "S256",
                "timeout": SECONDS,
                "trust_env": False,
                "verify": httpx2.create_ssl_context(),  # one for all logins: to make one takes longer than a login
            },
        )

    def start(self) -> LoginStart:
        """Begin a login. Raises UpstreamError."""
        with _provider_errors():
            self._check_metadata()
            begun = self._client.create_authorization_url(self._redirect)
        return LoginStart(begun["url"], {name: begun[name] for name in ("state", "nonce", "code_verifier")})

    def finish(self, answer: dict[str, str], noted: dict[str, str] | None) -> Person:
        """The person whom the provider names in its answer to a login that this browser has begun.

        `answer`: the parameters of the redirect. `noted`: what `start` has noted. Raises LoginRefused, UpstreamError.
        """
        if noted is None or not hmac.compare_digest(answer.get("state", "").encode(), noted["state"].encode()):
            raise LoginRefused("it was not begun in this browser, or took too long. Begin again at /login.")
        if "error" in answer:
            raise LoginRefused(f"the identity provider says {answer['error'][:100]!r}.")
        if answer.get("iss", self._issuer).rstrip("/") != self._issuer or not answer.get("code"):
            raise LoginRefused("the answer is not that of the identity provider.")
        with _provider_errors():
            self._check_metadata()
            token = self._client.fetch_access_token(
                self._redirect, code=answer["code"], code_verifier=noted["code_verifier"]
            )
            claims = self._client.parse_id_token(token, noted["nonce"])
        if not claims:
            raise LoginRefused("the identity provider has sent no id token.")
        return self._person(claims)

    def _person(self, claims: dict[str, Any]) -> Person:
        email = claims.get("email")
        verified = email if isinstance(email, str) and email and claims.get("email_verified") is True else None
        given = claims.get(self._settings.groups_claim)
        groups = cast("list[object]", given) if isinstance(given, list) else [given]
        names = frozenset(group for group in groups if isinstance(group, str))
        return Person(verified or f"subject:{claims['sub']}", verified, names)

    def _check_metadata(self) -> None:
        """Read the discovery document, at the first call. Raises UpstreamError if it is of another issuer."""
        metadata = self._client.load_server_metadata()
        if str(metadata.get("issuer", "")).rstrip("/") != self._issuer:
            metadata.pop("_loaded_at", None)  # the next login reads it again
            raise UpstreamError(SERVICE, f"its discovery document names the issuer {metadata.get('issuer')!r}")
        offered = metadata.get("id_token_signing_alg_values_supported", ["RS256"])
        metadata["id_token_signing_alg_values_supported"] = [name for name in ALGORITHMS if name in offered]


class _Client(OAuth2Mixin, OpenIDMixin, OAuth2Base):
    """Authlib's client without a web framework."""

    client_cls = OAuth2Client


@contextmanager
def _provider_errors() -> Generator[None]:
    """Raise LoginRefused for what the provider or its token is refused for, UpstreamError if it cannot be used."""
    try:
        yield
    except (AuthlibBaseError, JoseError) as error:
        log.warning("login refused", error=str(error))
        raise LoginRefused("the identity provider's answer is not valid; the log says why.") from error
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UpstreamError(SERVICE, str(error) or type(error).__name__) from error
