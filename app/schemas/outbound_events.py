"""The events that the application itself sends to receivers of outbound webhooks. Callers cannot send them."""

from __future__ import annotations

from typing import Final

MESSAGE_CREATED: Final = "message.created"
DOCUMENT_PROCESSED: Final = "document.processed"
DOCUMENT_FAILED: Final = "document.failed"
PLATFORM_EVENTS: Final = (MESSAGE_CREATED, DOCUMENT_PROCESSED, DOCUMENT_FAILED)
