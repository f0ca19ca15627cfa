"""Parses the platforms' webhooks: pure functions from a stored body to a `ParsedDelivery`.

A field that cannot be read becomes one of its event's `problems`. A part that cannot be read at all becomes an
`unreadable` event. The other fields and parts are kept.
"""

from __future__ import annotations

from app.schemas.webhook import ParsedDelivery
from app.services.webhooks.parsing.facebook import SOURCE as FACEBOOK
from app.services.webhooks.parsing.facebook import parse_facebook
from app.services.webhooks.parsing.generic import parse_generic
from app.services.webhooks.parsing.google import SOURCE as GOOGLE
from app.services.webhooks.parsing.google import parse_google, without_secret
from app.services.webhooks.parsing.untrusted_json import Body, decode_body

__all__ = [
    "FACEBOOK",
    "GOOGLE",
    "Body",
    "decode_body",
    "parse",
    "parse_facebook",
    "parse_generic",
    "parse_google",
    "without_secret",
]


def parse(source: str, body: object) -> ParsedDelivery:
    """The events of a stored body. Raises InvalidPayload if it is none that `decode_body` accepts."""
    if source == FACEBOOK:
        return parse_facebook(body)
    if source == GOOGLE:
        return parse_google(body)
    return parse_generic(source, body)
