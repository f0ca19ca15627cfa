"""What all groups of settings share: where they are read from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).resolve().parents[3]
"""The project's folder; relative paths in settings start here, and `.env` is read from here."""

Port = Annotated[int, Field(ge=1, le=65535)]


class Group(BaseSettings):
    """One group of settings; each field is read from the environment variable in its alias."""

    model_config = SettingsConfigDict(
        env_file=ROOT / ".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        case_sensitive=False,
        hide_input_in_errors=True,
    )
