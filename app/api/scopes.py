"""The application's own scopes, beside those of the library."""

from __future__ import annotations

from typing import Final

CONVERSATIONS: Final = "conversations"
"""Send messages, and read conversations."""
DOCUMENTS: Final = "documents"
"""Process, read and delete documents."""
LEADS: Final = "leads"
"""Store, read and delete leads."""
