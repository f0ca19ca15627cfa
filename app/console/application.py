"""The pages of the application."""

from __future__ import annotations

from typing import Final

from app.console.pages import conversations, documents, leads, reports, webhook_events

CONSOLE: Final = (conversations, documents, leads, webhook_events, reports)
"""The modules with the routers of these pages."""
