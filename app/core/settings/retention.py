"""Settings of retention: how long the application keeps its data."""

from __future__ import annotations

from pydantic import Field

from laneway.platform.settings.base import Group


class RetentionSettings(Group):
    """How long the application's data is kept, in days."""

    conversations: int = Field(365, alias="RETENTION_DAYS_CONVERSATIONS", ge=1)
    """Days for which conversations are kept."""
    reports: int = Field(180, alias="RETENTION_DAYS_REPORTS", ge=1)
    """Days for which reports are kept."""
    leads: int = Field(730, alias="RETENTION_DAYS_LEADS", ge=1)
    """Days for which leads are kept after their last change."""
