"""The pages of the application."""

from __future__ import annotations

from typing import Final

from app.console.pages import conversations

CONSOLE: Final = (conversations,)
"""The modules with the routers of these pages."""
