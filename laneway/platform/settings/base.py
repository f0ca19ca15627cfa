"""The base of all groups of settings: where they are read from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, DotEnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

Port = Annotated[int, Field(ge=1, le=65535)]
PROJECT_FILE: Final = "pyproject.toml"
LANEWAY_FILE: Final = "laneway.toml"
ENV_FILE: Final = ".env"


class ProjectFolder:
    """The folder of the project: relative paths in settings start here, and `.env` is read here."""

    def __init__(self) -> None:
        self._chosen: Path | None = None
        self.reads_env_file = True
        """False: `.env` is ignored, for tests."""

    @property
    def path(self) -> Path:
        """The folder given to `use`; else the nearest one with a project's file, from the current folder upwards."""
        if self._chosen is not None:
            return self._chosen
        here = Path.cwd()
        return next((folder for folder in (here, *here.parents) if has_project_file(folder)), here)

    @property
    def env_file(self) -> Path | None:
        """The file of settings; None if it is not read."""
        return self.path / ENV_FILE if self.reads_env_file else None

    def use(self, folder: Path) -> None:
        """Set the project's folder, so that the current folder of the process does not matter."""
        self._chosen = folder.resolve()


def has_project_file(folder: Path) -> bool:
    """Whether a folder has a pyproject.toml or a laneway.toml."""
    return (folder / PROJECT_FILE).exists() or (folder / LANEWAY_FILE).exists()


project: Final = ProjectFolder()
"""The project of this process."""


class Group(BaseSettings):
    """One group of settings. Each field is read from the environment variable in its alias."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        case_sensitive=False,
        hide_input_in_errors=True,
    )

    def own_secrets(self) -> dict[str, bytes]:
        """Name of a setting → the secret that its owner has chosen, and whose length is checked."""
        return {}

    def exposed(self) -> dict[str, str]:
        """Name of a setting → the other machine to which it makes us send a key or a password without TLS."""
        return {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment first, then `.env` in the project's folder."""
        del dotenv_settings, file_secret_settings
        if project.env_file is None:
            return init_settings, env_settings
        return init_settings, env_settings, DotEnvSettingsSource(settings_cls, env_file=project.env_file)


def absolute(path: Path) -> Path:
    """The absolute form of a path in a setting. Relative paths start at the project's folder."""
    return Path(os.path.normpath(project.path / path.expanduser())).resolve()


def secret_bytes(**secrets: SecretStr | None) -> dict[str, bytes]:
    """The secrets that are set, as `Group.own_secrets` returns them."""
    return {name: secret.get_secret_value().encode() for name, secret in secrets.items() if secret is not None}
