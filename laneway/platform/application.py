"""The application of a project: what its file declares, and the parts that the library makes from that.

`laneway.platform.project` holds the Celery app for `celery -A`, `laneway.asgi` the API for uvicorn.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from laneway.platform.importing import import_object
from laneway.platform.project_file import ProjectFile, read_project_file
from laneway.platform.queues import declare_queues
from laneway.platform.settings import Settings, load_settings, project

if TYPE_CHECKING:  # what only needs the settings, such as a command about keys, imports neither Celery nor SQLAlchemy
    from celery import Celery

    from laneway.platform.platform import Platform
    from laneway.platform.schedules.entry import Schedule

PROJECT_APP: Final = "laneway.platform.project:celery_app"
LIBRARY_TASKS: Final = "laneway.platform.library_tasks"
PROJECT_API: Final = "laneway.asgi:app"


class Application:
    """The parts of a project's application. Each is imported or made when it is first asked for."""

    def __init__(self, file: ProjectFile) -> None:
        self._file, self._section = file, file.section
        self.name = file.name

    @property
    def celery(self) -> str:
        """The Celery app, as `celery -A` takes it."""
        return self._section.celery if self._own_app_is_complete and self._section.celery else PROJECT_APP

    @property
    def api(self) -> str:
        """The ASGI application, as uvicorn takes it."""
        return self._section.api or PROJECT_API

    @property
    def workflow_folder(self) -> Path | None:
        """The folder of workflow definitions, or None. Raises ConfigError if it does not exist."""
        if self._section.workflows is None:
            return None
        folder = self._file.path.parent / self._section.workflows
        if not folder.is_dir():
            raise self._file.refusal(f"workflows: there is no folder {folder}")
        return folder

    def declare_queues(self) -> None:
        """Declare the queues and the worker groups, from the file or by importing the application's own Celery app."""
        if self._own_app_is_complete:
            return
        declare_queues(self._section.lanes, workers=self._section.worker_groups)

    def celery_app(self) -> Celery:
        """The Celery app, with every task registered. Raises ConfigError."""
        from laneway.platform.celery_app import load_tasks

        app = self._import("celery") if self._own_app_is_complete else self.bare_celery_app
        load_tasks(app)
        return app

    @cached_property
    def bare_celery_app(self) -> Celery:
        """The Celery app that the library makes or configures, before its tasks are imported. Raises ConfigError."""
        from celery import Celery

        from laneway.platform.celery_app import configure_celery, configure_logs
        from laneway.platform.current import use_platform
        from laneway.platform.library_schedules import library_schedules
        from laneway.platform.registry import registry

        own: Celery | None = None if self._own_app_is_complete else self._import("celery")
        settings = self.load_settings()
        self.declare_queues()
        configure_logs(settings)
        app = configure_celery(
            own or Celery(self.name),
            settings,
            tasks=[*self._section.tasks, LIBRARY_TASKS],
            schedules=[*self._schedules(), *library_schedules()],
            named_by=self._named_by("tasks"),
        )
        registry.bind(app.register_task)
        use_platform(lambda: self.make_platform(self.load_settings()))
        return app

    def load_settings(self) -> Settings:
        """The settings. Raises ConfigError."""
        own: Callable[[], Settings] | None = self._import("settings")
        return own() if own else load_settings(Settings)

    def make_platform(self, settings: Settings, *, app: Celery | None = None) -> Platform:
        """Make a platform with these settings, on the application's Celery app or on another one."""
        return self._platform_class(settings, app or self.celery_app())

    def make_reader(self, settings: Settings) -> Platform:
        """Make a platform that only reads tasks: it imports none of the application's tasks and services."""
        from laneway.platform.platform import Platform

        return Platform(settings, self._import("celery") if self._own_app_is_complete else self.bare_celery_app)

    def api_app(self) -> Any:
        """The ASGI application. Raises ConfigError."""
        return import_object(self.api, named_by=self._named_by("api"))

    def upgrade(self, settings: Settings) -> None:
        """Bring the tables of the platform and of the application up to date."""
        from laneway.platform.db.migrate import upgrade

        upgrade(settings.storage.url, self._platform_class.migrations)

    def development_environment(self, settings: Settings) -> dict[str, str]:
        """Environment variables for the processes that `laneway up` starts."""
        own: Callable[[Settings], dict[str, str]] | None = self._import("development")
        return own(settings) if own else {}

    def add_commands(self, cli: Any) -> None:
        """Add the application's own commands."""
        own: Callable[[Any], None] | None = self._import("commands")
        if own:
            own(cli)

    @cached_property
    def _platform_class(self) -> type[Platform]:
        from laneway.platform.platform import Platform

        base = cast("type[Platform]", self._import("platform") or Platform)
        folder = self.workflow_folder
        return base if folder is None else type(base.__name__, (base,), {"workflow_folder": folder})

    @cached_property
    def _own_app_is_complete(self) -> bool:
        """Whether the application has a Celery app that it has configured for the platform itself."""
        own: Celery | None = self._import("celery")
        if own is None:
            return False
        from laneway.platform.celery_app import is_configured

        return is_configured(own)

    def _schedules(self) -> Sequence[Schedule]:
        from laneway.platform.schedules.entry import Schedule

        found: Any = self._import("schedules") or ()
        if not (isinstance(found, list | tuple) and all(isinstance(each, Schedule) for each in cast("Any", found))):
            raise self._file.refusal(f"schedules: {self._section.schedules} must be a list or tuple of Schedule")
        return cast("Sequence[Schedule]", found)

    def _import(self, key: str) -> Any:
        """What a key names, or None if it is not given. Raises ConfigError."""
        reference: str | None = getattr(self._section, key)
        return import_object(reference, named_by=self._named_by(key)) if reference else None

    def _named_by(self, key: str) -> str:
        return f"{key} of {self._file.where}"


@cache
def application() -> Application:
    """The application of this project; its modules can be imported then. Raises ConfigError."""
    found = Application(read_project_file(project.path))
    for folder in (project.path, project.path / "src"):
        if folder.is_dir():  # also if it is there: Celery takes its own entry of the current folder away again
            sys.path.insert(0, str(folder))
    return found
