"""Signatures of webhooks: verify inbound ones, and sign outbound ones.

Inbound: Facebook signs the raw body with the app secret (`X-Hub-Signature-256: sha256=<hex>`, see "Validating
payloads" in Meta's webhook documentation). Generic sources do the same, with a header of their own. Google lead forms
have a key in the body instead. Every comparison takes constant time.

Outbound: Standard Webhooks (https://www.standardwebhooks.com), by its own library.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

from pydantic import SecretStr
from standardwebhooks import Webhook

from laneway.platform.errors import BadSignature

HUB_PREFIX = "sha256="


def verify_hub_signature(body: bytes, header: str | None, secret: SecretStr, *, source: str) -> None:
    """Verify `sha256=<hex HMAC-SHA256 of the raw body>`. Raises BadSignature, without the right signature in it."""
    key = _key(secret, source)
    if not header:
        raise BadSignature(source, "it carries no signature")
    given = header.strip()
    if not given.startswith(HUB_PREFIX):
        raise BadSignature(source, "its signature does not start with sha256=")
    expected = hmac.new(key, body, hashlib.sha256).hexdigest()
    if not _equal(given.removeprefix(HUB_PREFIX).lower(), expected):
        raise BadSignature(source, "its signature does not match its body")


def sign_hub(body: bytes, secret: SecretStr) -> str:
    """Return the header value that `verify_hub_signature` accepts, as Facebook and generic sources send it."""
    return HUB_PREFIX + hmac.new(secret.get_secret_value().encode(), body, hashlib.sha256).hexdigest()


def verify_token(given: object, expected: SecretStr, *, source: str) -> None:
    """Verify a shared token, such as Google's `google_key` or Facebook's verify token. Raises BadSignature.

    `given` comes straight from a request, so it may be missing or of any type.
    """
    _key(expected, source)
    if given is None or given == "":
        raise BadSignature(source, "it carries no key")
    if not isinstance(given, str) or not _equal(given, expected.get_secret_value()):
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


def _key(secret: SecretStr, source: str) -> bytes:
    key = secret.get_secret_value().encode()
    if not key:
        raise BadSignature(source, "no secret is configured to verify it")  # anyone can sign with an empty key
    return key


def _equal(given: str, expected: str) -> bool:
    # As bytes, because compare_digest refuses text beyond ASCII, and headers may hold any character.
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode("utf-8", "surrogatepass"))
