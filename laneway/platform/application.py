"""The application of a project: its pyproject.toml names the parts in `[tool.laneway]`; the first use imports them."""

from __future__ import annotations

import importlib
import sys
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

from celery import Celery
from pydantic import BaseModel, ConfigDict, ValidationError

from laneway.platform.celery_app import load_tasks
from laneway.platform.db.migrate import upgrade
from laneway.platform.errors import ConfigError
from laneway.platform.platform import Platform
from laneway.platform.settings import Settings
from laneway.platform.settings.base import PROJECT_FILE, project


class Application(BaseModel):
    """The section `[tool.laneway]`: the parts of an application, each as `module:name`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    celery: str
    """The Celery app, as `celery -A` takes it. Importing its module declares the queues."""
    platform: str
    """The class of the platform: `laneway.platform.platform:Platform`, or a subclass."""
    settings: str
    """The function that reads the settings."""
    api: str
    """The ASGI application, as uvicorn takes it."""
    development: str | None = None
    """A function that takes the settings and returns environment variables for the processes of `laneway up`."""
    commands: str | None = None
    """A function that adds the application's own commands to the command line."""

    def celery_app(self) -> Celery:
        """The Celery app, with every task registered. Raises ConfigError."""
        app = cast("Celery", _import(self.celery))
        load_tasks(app)
        return app

    def declare_queues(self) -> None:
        """Import the module that declares the queues."""
        _import(self.celery)

    def load_settings(self) -> Settings:
        """The settings. Raises ConfigError."""
        return cast("Callable[[], Settings]", _import(self.settings))()

    def make_platform(self, settings: Settings, *, app: Celery | None = None) -> Platform:
        """Make a platform with these settings, on the application's Celery app or on another one."""
        return self._platform_class()(settings, app or self.celery_app())

    def api_app(self) -> Any:
        """The ASGI application. Raises ConfigError."""
        return _import(self.api)

    def upgrade(self, settings: Settings) -> None:
        """Bring the tables of the platform and of the application up to date."""
        upgrade(settings.storage.url, self._platform_class().migrations)

    def development_environment(self, settings: Settings) -> dict[str, str]:
        """Environment variables for the processes that `laneway up` starts."""
        if self.development is None:
            return {}
        return cast("Callable[[Settings], dict[str, str]]", _import(self.development))(settings)

    def add_commands(self, cli: Any) -> None:
        """Add the application's own commands."""
        if self.commands is not None:
            cast("Callable[[Any], None]", _import(self.commands))(cli)

    def _platform_class(self) -> type[Platform]:
        return cast("type[Platform]", _import(self.platform))


@cache
def application() -> Application:
    """The application of this project. Raises ConfigError, which names what is missing."""
    path = project.path / PROJECT_FILE
    section = _section(path)
    if section is None:
        raise ConfigError(
            f"No Laneway project here: {path} has no section [tool.laneway]. Start the command in a project's folder."
        )
    if str(project.path) not in sys.path:
        sys.path.insert(0, str(project.path))
    try:
        return Application.model_validate(section)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_input=False)]
        raise ConfigError(f"[tool.laneway] in {path} is not valid:\n  - " + "\n  - ".join(problems)) from None


def _section(path: Path) -> dict[str, Any] | None:
    try:
        return tomllib.loads(path.read_text("utf-8")).get("tool", {}).get("laneway")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def _import(name: str) -> Any:
    """Import the object that `module:name` names. Raises ConfigError when it does not exist."""
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ConfigError(f"[tool.laneway] names {name!r}; it must be `module:name`.")
    try:
        return getattr(importlib.import_module(module), attribute)
    except AttributeError as error:
        raise ConfigError(f"[tool.laneway] names {name!r}, but {module} has no {attribute!r}.") from error
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise ConfigError(f"[tool.laneway] names {name!r}, but there is no module {error.name!r}.") from error
        raise
