"""Signatures of webhooks: verify inbound ones, and sign outbound ones.

Inbound: Facebook signs the raw body with the app secret (`X-Hub-Signature-256: sha256=<hex>`, see "Validating
payloads" in Meta's webhook documentation). Generic sources do the same, with a header of their own. Google lead forms
have a key in the body instead. Every comparison takes constant time.

Outbound: Standard Webhooks (https://www.standardwebhooks.com), by its own library.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import datetime

from pydantic import SecretStr
from standardwebhooks import Webhook

from laneway.platform.errors import BadSignature

HUB_PREFIX = "sha256="
_TIMESTAMP = re.compile(r"\d{1,12}", re.ASCII)


def verify_hub_signature(
    body: bytes, header: str | None, secret: SecretStr, *, source: str, previous: SecretStr | None = None
) -> None:
    """Verify `sha256=<hex HMAC-SHA256 of the raw body>`. Raises BadSignature, without the right signature in it.

    `previous`: the secret before this one, which is accepted as well while the sender changes to the new one.
    """
    keys = _keys(secret, previous, source)
    if not header:
        raise BadSignature(source, "it carries no signature")
    given = header.strip()
    if not given.startswith(HUB_PREFIX):
        raise BadSignature(source, "its signature does not start with sha256=")
    digest = given.removeprefix(HUB_PREFIX).lower()
    if not any(_equal(digest, hmac.new(key, body, hashlib.sha256).hexdigest()) for key in keys):
        raise BadSignature(source, "its signature does not match its body")


def timestamped(body: bytes, timestamp: str | None, *, tolerance: float, source: str, at: datetime) -> bytes:
    """Return the bytes that a sender signs who also signs the time (seconds since 1970): `TIMESTAMP.BODY`.

    Raises BadSignature if the time is missing, or more than `tolerance` seconds away from `at`: a captured request can
    be sent again for a short time only.
    """
    if timestamp is None or not _TIMESTAMP.fullmatch(timestamp):
        raise BadSignature(source, "it carries no time in seconds since 1970")
    if abs(at.timestamp() - int(timestamp)) > tolerance:
        raise BadSignature(source, f"its time is more than {tolerance:g} s away")
    return f"{timestamp}.".encode() + body


def sign_hub(body: bytes, secret: SecretStr) -> str:
    """Return the header value that `verify_hub_signature` accepts, as Facebook and generic sources send it."""
    return HUB_PREFIX + hmac.new(secret.get_secret_value().encode(), body, hashlib.sha256).hexdigest()


def verify_token(given: object, expected: SecretStr, *, source: str, previous: SecretStr | None = None) -> None:
    """Verify a shared token, such as Google's `google_key` or Facebook's verify token. Raises BadSignature.

    `given` comes straight from a request, so it may be missing or of any type. `previous` is accepted as well.
    """
    keys = _keys(expected, previous, source)
    if given is None or given == "":
        raise BadSignature(source, "it carries no key")
    if not isinstance(given, str) or not any(_equal(given, key.decode()) for key in keys):
        raise BadSignature(source, "its key is not the right one")


def sign_outbound(body: str, keys: Sequence[bytes], *, message_id: str, at: datetime) -> dict[str, str]:
    """Return the three Standard Webhooks headers for one attempt; `message_id` is the same for every attempt.

    While a secret is being changed there are several keys. Then the header contains one signature per key, separated by
    spaces, and a receiver accepts the message if one of them is right.
    """
    signatures = [Webhook(key).sign(msg_id=message_id, timestamp=at, data=body) for key in keys]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _keys(secret: SecretStr, previous: SecretStr | None, source: str) -> list[bytes]:
    """The keys that verify, the present one first."""
    if not secret.get_secret_value():
        raise BadSignature(source, "no secret is configured to verify it")  # anyone can sign with an empty key
    return [each.get_secret_value().encode() for each in (secret, previous) if each and each.get_secret_value()]


def _equal(given: str, expected: str) -> bool:
    # As bytes, because compare_digest refuses text beyond ASCII, and headers may hold any character.
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode("utf-8", "surrogatepass"))
