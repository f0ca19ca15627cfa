"""Chooses the responder that the settings ask for."""

from __future__ import annotations

from app.core.settings import ResponderSettings
from app.services.conversations.responders.base import Responder


def make_responder(settings: ResponderSettings) -> Responder:
    """Make the endpoint's responder if an endpoint is configured, otherwise the offline one.

    Configured means a model, and a base URL or a key: without a base URL the key is for api.openai.com. Each module is
    imported only when it is used, because both are slow to import.
    """
    if settings.model and (settings.base_url or settings.api_key):
        from app.services.conversations.responders.openai import OpenAIResponder

        return OpenAIResponder(settings)
    from app.services.conversations.responders.offline import OfflineResponder

    return OfflineResponder()
