"""Signatures: what is accepted, what is refused, and that a refusal shows no secret."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from laneway.platform.errors import BadSignature
from laneway.platform.settings.signing_key import signing_key
from laneway.platform.webhooks.signing import (
    sign_hub,
    sign_outbound,
    timestamped,
    verify_hub_signature,
    verify_token,
)

SECRET = SecretStr("app-secret-of-the-shop")
AT = 1_800_000_000
NOW = datetime.fromtimestamp(AT, UTC)


def key_of(secret: SecretStr) -> bytes:
    return signing_key(secret, setting="SETTING")


secrets = st.text(st.characters(codec="utf-8"), min_size=1).map(SecretStr)


def test_the_signature_matches_a_published_test_vector() -> None:
    # RFC 4231, test case 2: key "Jefe", data "what do ya want for nothing?".
    known = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"

    assert sign_hub(b"what do ya want for nothing?", SecretStr("Jefe")) == known


@given(body=st.binary(), secret=secrets)
def test_every_signed_body_verifies(body: bytes, secret: SecretStr) -> None:
    verify_hub_signature(body, sign_hub(body, secret), secret, source="facebook")


@given(body=st.binary(), other=st.binary(), secret=secrets)
def test_a_signature_verifies_only_its_own_body(body: bytes, other: bytes, secret: SecretStr) -> None:
    assume(body != other)
    with pytest.raises(BadSignature):
        verify_hub_signature(other, sign_hub(body, secret), secret, source="facebook")


@given(header=st.one_of(st.none(), st.text()))
def test_any_header_that_is_not_the_signature_is_refused_and_never_crashes(header: str | None) -> None:
    with pytest.raises(BadSignature):
        verify_hub_signature(b"{}", header, SECRET, source="facebook")


@pytest.mark.parametrize(
    "header",
    [None, "", "sha256=", "sha1=" + "0" * 40, "sha256=" + "0" * 64, "sha256=é", "sha256=\udcff", "0" * 64],
)
def test_missing_foreign_and_strange_signatures_are_refused(header: str | None) -> None:
    with pytest.raises(BadSignature) as refused:
        verify_hub_signature(b"{}", header, SECRET, source="facebook")

    assert str(refused.value).startswith("The facebook request was refused: ")


def test_a_signature_of_another_secret_is_refused_without_showing_the_right_one() -> None:
    with pytest.raises(BadSignature) as refused:
        verify_hub_signature(b"{}", sign_hub(b"{}", SecretStr("guess")), SECRET, source="shop")

    right = sign_hub(b"{}", SECRET).removeprefix("sha256=")
    assert right not in str(refused.value)
    assert SECRET.get_secret_value() not in str(refused.value)


def test_hex_digits_may_be_capital() -> None:
    header = "sha256=" + sign_hub(b"{}", SECRET).removeprefix("sha256=").upper()

    verify_hub_signature(b"{}", header, SECRET, source="shop")


def test_an_empty_secret_verifies_nothing() -> None:
    empty = SecretStr("")
    with pytest.raises(BadSignature):
        verify_hub_signature(b"{}", sign_hub(b"{}", empty), empty, source="shop")
    with pytest.raises(BadSignature):
        verify_token("", empty, source="shop")


def test_without_a_secret_the_one_before_it_verifies_nothing_either() -> None:
    empty = SecretStr("")
    with pytest.raises(BadSignature, match="no secret is configured"):
        verify_hub_signature(b"{}", sign_hub(b"{}", SECRET), empty, source="shop", previous=SECRET)
    with pytest.raises(BadSignature, match="no secret is configured"):
        verify_token(SECRET.get_secret_value(), empty, source="google", previous=SECRET)


@pytest.mark.parametrize("away", [0, 300, -300])
def test_a_signed_time_is_a_part_of_what_is_signed(away: int) -> None:
    signed = str(AT + away)
    assert timestamped(b"{}", signed, tolerance=300, source="shop", at=NOW) == f"{signed}.{{}}".encode()


@pytest.mark.parametrize(
    "signed", [str(AT + 301), str(AT - 301), "0", None, "", "-1", "١", f" {AT}", f"{AT}.0", "9" * 13]
)
def test_a_signed_time_that_is_far_away_or_none_is_refused(signed: str | None) -> None:
    with pytest.raises(BadSignature, match=r"its time is more than 300 s away|it carries no time"):
        timestamped(b"{}", signed, tolerance=300, source="shop", at=NOW)


@given(st.text(min_size=1))
def test_the_right_token_is_accepted_in_any_script(token: str) -> None:
    verify_token(token, SecretStr(token), source="google")


@pytest.mark.parametrize("given", [None, "", "wrong", "schlüssel ", "schlussel", 7, True, ["schlüssel"], {"a": 1}])
def test_a_wrong_token_of_any_type_is_refused(given: object) -> None:
    with pytest.raises(BadSignature):
        verify_token(given, SecretStr("schlüssel"), source="google")


def test_outbound_headers_verify_with_the_reference_library() -> None:
    secret = SecretStr("whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode())
    headers = sign_outbound('{"a":1}', [key_of(secret)], message_id="msg_1", at=datetime.now(UTC))
    receiver = Webhook(secret.get_secret_value())

    assert receiver.verify('{"a":1}', headers) == {"a": 1}
    with pytest.raises(WebhookVerificationError):
        receiver.verify('{"a":2}', headers)


@given(key=st.binary(min_size=1))
def test_a_whsec_secret_is_base64_padded_or_not(key: bytes) -> None:
    encoded = "whsec_" + base64.b64encode(key).decode()

    assert key_of(SecretStr(encoded)) == key
    assert key_of(SecretStr(encoded.rstrip("="))) == key


def test_a_plain_secret_is_its_own_key_even_if_it_looks_like_base64() -> None:
    assert key_of(SecretStr("c2VjcmV0")) == b"c2VjcmV0"
    receiver = Webhook("whsec_" + base64.b64encode(b"plain words").decode())
    headers = sign_outbound("{}", [key_of(SecretStr("plain words"))], message_id="m", at=datetime.now(UTC))

    receiver.verify("{}", headers)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_!!!", "whsec_ab!cd", "whsec_a", ""])
def test_a_secret_that_cannot_sign_is_refused_with_its_setting_and_not_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="SETTING") as refused:
        key_of(SecretStr(secret))

    assert secret == "" or secret not in str(refused.value).replace("whsec_ ", "")
