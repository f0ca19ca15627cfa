"""What the platforms send, made into events: pure functions from a stored body to a `ParsedDelivery`.

A body that cannot be understood at all raises InvalidPayload; a part of it that cannot is one of the delivery's
`problems`, and costs nothing but itself.
"""

from app.services.webhooks.parsing.facebook import parse_facebook
from app.services.webhooks.parsing.generic import parse_generic
from app.services.webhooks.parsing.google import parse_google, without_secret
from app.services.webhooks.parsing.hostile import decode_body

__all__ = ["decode_body", "parse_facebook", "parse_generic", "parse_google", "without_secret"]
