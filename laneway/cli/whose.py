"""Whose platform the project's settings name, in a few words, and whether that is obvious."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from laneway._masking import shown_address
from laneway.cli.project import find_project, project_name

if TYPE_CHECKING:
    from laneway.platform.settings import Settings

DECIDING: Final = ("DATABASE_URL", "DATA_DIR", "REDIS_URL", "REDIS_PORT")
"""Environment variables that choose another platform than the project's files do."""


def describe_platform(settings: Settings) -> str:
    """The name of the project, its database and its broker, without their passwords."""
    folder = find_project()
    name = project_name(folder) if folder else Path.cwd().name
    return f"{name}: {shown_address(settings.storage.url)}, {shown_address(settings.redis.broker_url)}"


def is_obvious() -> bool:
    """Whether the command runs in the folder of its project, and no environment variable chooses another platform."""
    return find_project() == Path.cwd() and not any(os.environ.get(name) for name in DECIDING)
