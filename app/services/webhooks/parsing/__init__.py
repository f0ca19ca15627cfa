"""Parses the platforms' webhooks: pure functions from a stored body to a `ParsedDelivery`.

A body that cannot be parsed at all raises InvalidPayload. A part that cannot be parsed becomes one of the delivery's
`problems`; the other parts are kept.
"""

from app.services.webhooks.parsing.facebook import parse_facebook
from app.services.webhooks.parsing.generic import parse_generic
from app.services.webhooks.parsing.google import parse_google, without_secret
from app.services.webhooks.parsing.untrusted_json import decode_body

__all__ = ["decode_body", "parse_facebook", "parse_generic", "parse_google", "without_secret"]
