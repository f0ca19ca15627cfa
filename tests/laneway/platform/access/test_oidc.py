"""Logins by a real OpenID Connect provider on this machine."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest
from joserfc.jwk import OctKey, RSAKey
from pydantic import SecretStr

from laneway.platform.access.oidc import LoginRefused, LoginStart, Provider
from laneway.platform.errors import UpstreamError
from laneway.platform.settings.people import PeopleSettings
from tests.fixtures.oidc_provider import CLIENT, CLIENT_SECRET, OidcProvider, oidc_provider, started_provider

__all__ = ["oidc_provider", "started_provider"]


def provider_of(oidc_provider: OidcProvider, *, secret: str = CLIENT_SECRET) -> Provider:
    """Our side of the provider."""
    settings = PeopleSettings(
        issuer=oidc_provider.url, client_id=CLIENT, client_secret=SecretStr(secret), viewers="everybody"
    )
    return Provider(settings, redirect=oidc_provider.redirect)


def visit(begun: LoginStart) -> dict[str, str]:
    """Go to the provider as a browser does; returns the parameters with which it sends the browser back."""
    answer = httpx2.get(begun.url, trust_env=False)
    assert answer.status_code == 302, answer.text
    return dict(parse_qsl(urlsplit(answer.headers["location"]).query))


def test_a_person_is_named_by_a_verified_address_and_has_the_groups_of_the_claim(oidc_provider: OidcProvider) -> None:
    provider = provider_of(oidc_provider)
    oidc_provider.log_in(sub="17", email="ada@example.com", groups=["ops", "all", 3])
    begun = provider.start()

    person = provider.finish(visit(begun), begun.noted)

    assert (person.name, person.email, person.groups) == ("ada@example.com", "ada@example.com", {"ops", "all"})


def test_an_address_that_the_provider_has_not_verified_names_nobody(oidc_provider: OidcProvider) -> None:
    provider = provider_of(oidc_provider)
    for unverified in (False, None, "true"):
        oidc_provider.log_in(sub="17", email="root@example.com", email_verified=unverified)
        begun = provider.start()

        person = provider.finish(visit(begun), begun.noted)

        assert (person.name, person.email) == ("subject:17", None)


def test_an_answer_counts_only_in_the_browser_that_began_the_login(oidc_provider: OidcProvider) -> None:
    provider = provider_of(oidc_provider)
    oidc_provider.log_in(sub="17")
    begun, other = provider.start(), provider.start()
    answer = visit(begun)

    for noted in (None, other.noted):
        with pytest.raises(LoginRefused, match="was not begun in this browser"):
            provider.finish(answer, noted)
    with pytest.raises(LoginRefused):  # the right state with the verifier of another login: PKCE
        provider.finish(answer, {**begun.noted, "code_verifier": other.noted["code_verifier"]})
    assert provider.finish(answer, begun.noted).name == "subject:17"
    with pytest.raises(LoginRefused):  # a code is good for one login
        provider.finish(answer, begun.noted)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"iss": "https://evil.example"}, "not that of the identity provider"),
        ({"iss": ""}, "not that of the identity provider"),
        ({"code": ""}, "not that of the identity provider"),
        ({"error": "access_denied"}, "says 'access_denied'"),
    ],
)
def test_an_answer_of_somebody_else_or_without_a_code_is_refused(
    oidc_provider: OidcProvider, changed: dict[str, str], problem: str
) -> None:
    """An answer that names its issuer cannot be one of another provider (RFC 9207)."""
    provider = provider_of(oidc_provider)
    oidc_provider.log_in(sub="17")
    begun = provider.start()
    answer = visit(begun)

    with pytest.raises(LoginRefused, match=problem):
        provider.finish({**answer, **changed}, begun.noted)
    assert provider.finish({**answer, "iss": oidc_provider.url}, begun.noted).name == "subject:17"


ATTACKS: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://evil.example"},
    "another client": {"aud": ["somebody-else"]},
    "another nonce": {"nonce": "n-0"},
    "long over": {"exp": 1_000_000_000},
    "no subject": {"sub": None},
}


def test_an_id_token_that_is_not_for_this_login_is_refused(oidc_provider: OidcProvider) -> None:
    provider = provider_of(oidc_provider)
    oidc_provider.log_in(sub="17")
    for attack, claims in ATTACKS.items():
        oidc_provider.altered = claims
        begun = provider.start()

        with pytest.raises(LoginRefused):
            pytest.fail(f"{attack}: {provider.finish(visit(begun), begun.noted)}")


def test_an_id_token_that_another_key_signed_is_refused(oidc_provider: OidcProvider) -> None:
    provider = provider_of(oidc_provider)
    oidc_provider.log_in(sub="17")
    oidc_provider.signing_key = RSAKey.generate_key(2048, auto_kid=True)
    begun = provider.start()

    with pytest.raises(LoginRefused):
        provider.finish(visit(begun), begun.noted)


@pytest.mark.filterwarnings('ignore:JWS algorithm "none"')  # the provider that signs so
@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_an_id_token_is_signed_with_a_key_that_only_the_provider_has(
    oidc_provider: OidcProvider, algorithm: str
) -> None:
    provider = provider_of(oidc_provider)
    oidc_provider.log_in(sub="17")
    oidc_provider.algorithm = "PS256"
    begun = provider.start()
    assert provider.finish(visit(begun), begun.noted).name == "subject:17"

    oidc_provider.algorithm = algorithm
    if algorithm == "HS256":
        oidc_provider.signing_key = OctKey.import_key(CLIENT_SECRET, {"kid": oidc_provider.key.kid})
    begun = provider.start()

    with pytest.raises(LoginRefused):
        provider.finish(visit(begun), begun.noted)


def test_new_keys_of_the_provider_are_read_when_they_are_needed(
    oidc_provider: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = provider_of(oidc_provider)
    oidc_provider.log_in(sub="17")
    before = provider.start()
    provider.finish(visit(before), before.noted)
    monkeypatch.setattr(oidc_provider, "key", RSAKey.generate_key(2048, {"use": "sig"}, auto_kid=True))
    begun = provider.start()

    assert provider.finish(visit(begun), begun.noted).name == "subject:17"


def test_a_wrong_secret_of_this_platform_is_a_refused_login(oidc_provider: OidcProvider) -> None:
    provider = provider_of(oidc_provider, secret="another-secret-of-tests")
    oidc_provider.log_in(sub="17")
    begun = provider.start()

    with pytest.raises(LoginRefused):
        provider.finish(visit(begun), begun.noted)


def test_a_provider_that_names_another_issuer_or_is_away_is_not_used(oidc_provider: OidcProvider) -> None:
    provider = provider_of(oidc_provider)
    oidc_provider.issuer = "https://evil.example"
    with pytest.raises(UpstreamError, match=r"names the issuer 'https://evil\.example'"):
        provider.start()
    oidc_provider.issuer = None
    assert provider.start().url.startswith(oidc_provider.url)

    nobody = PeopleSettings(issuer="http://127.0.0.1:9", client_id="x", client_secret=SecretStr("y"), viewers="all")
    with pytest.raises(UpstreamError):
        Provider(nobody, redirect="http://127.0.0.1:8000/login/callback").start()
