"""A project's application on servers of its own: an embedded Valkey and a SQLite file in a temporary folder."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import kombu.pools
import redis
from celery import Celery
from celery._state import get_current_app

from laneway.platform.application import Application, application
from laneway.platform.celery_app import copy_celery
from laneway.platform.current import replaced_platform
from laneway.platform.platform import Platform
from laneway.platform.registry import registry
from laneway.platform.settings import Settings, load_settings, project
from laneway.testing.api_server import ApiServer
from laneway.testing.databases import EmptiedSqlite
from laneway.testing.valkey_server import start_valkey

BROKER, RESULTS = 0, 1
"""The numbers of the databases of Valkey."""
REPLACED = ("REDIS_URL", "REDIS_HOST", "REDIS_PORT", "BROKER_TRANSPORT")
"""Variables of the developer's environment that would name another server."""


class TestInstallation:
    """The servers and the application of one session of tests. Each process of pytest-xdist has its own."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        """Start the server, and create the tables. Raises NoServer and ConfigError."""
        self.application: Application = application()
        self.valkey = start_valkey(folder / "valkey")
        self.broker: Any = redis.Redis(host=self.valkey.host, port=self.valkey.port, db=BROKER)
        self.environment = {
            "CELERY_BROKER_URL": self.valkey.url(BROKER),
            "CELERY_RESULT_BACKEND": self.valkey.url(RESULTS),
            "DATABASE_URL": f"sqlite:///{folder / 'laneway.db'}",
            "DATA_DIR": str(folder / "data"),
            "OUTBOUND_ALLOW_LOOPBACK": "true",
        }
        self._template = folder / "template.db"
        with self._environment(DATABASE_URL=f"sqlite:///{self._template}"):
            self.application.upgrade(self._load_settings())
        with self._environment():
            self.settings = self._load_settings()
        self.sqlite = EmptiedSqlite(self._template, folder / "laneway.db")
        self._app: Celery | None = None
        registry.bind(self._register)

    @contextmanager
    def platform(self) -> Generator[Platform]:
        """A platform without tasks and rows. In the block, it and its Celery app are those of this process."""
        self.valkey.flush(BROKER, RESULTS)
        with self._celery_app() as app:
            platform = self.application.make_platform(self.settings, app=app)
            platform.database = self.sqlite.empty()
            with replaced_platform(platform):
                try:
                    yield platform
                finally:
                    platform.close()

    @property
    def app(self) -> Celery:
        """The Celery app of the running test."""
        assert self._app is not None, "there is an app only while a test uses the platform"  # noqa: S101
        return self._app

    @cached_property
    def api(self) -> ApiServer:
        """The application's API, served by a thread of this process from its first use on."""
        return ApiServer(self.application.api_app())

    def close(self) -> None:
        """Stop the servers."""
        if "api" in self.__dict__:
            self.api.close()
        self.sqlite.database.close()
        self.broker.close()
        self.valkey.kill()

    def _load_settings(self) -> Settings:
        """Read the settings anew: the application may keep those of its first use."""
        return load_settings(type(self.application.load_settings()))

    @contextmanager
    def _environment(self, **more: str) -> Generator[None]:
        """The environment of the test's servers, without `.env`."""
        before, project.reads_env_file = project.reads_env_file, False
        try:
            with patch.dict(os.environ, self.environment | more):
                for name in REPLACED:
                    os.environ.pop(name, None)
                yield
        finally:
            project.reads_env_file = before

    @contextmanager
    def _celery_app(self) -> Generator[Celery]:
        """A Celery app that is the current one in this block, and with which all tasks send and run."""
        tasks: list[Any] = [task for name in registry if (task := registry.task(name)) is not None]
        before: list[tuple[Any, Celery]] = [(task, task.app) for task in tasks]
        current, self._app = get_current_app(), copy_celery(self.application.celery_app(), self.settings)
        self._app.set_current()
        for task in tasks:
            self._app.register_task(task)
        try:
            yield self._app
        finally:
            self._app.close()
            self._app = None
            kombu.pools.reset()
            for task, app in before:
                app.register_task(task)
            current.set_current()

    def _register(self, task: Any) -> None:
        """Register a task that a test declares."""
        if self._app is not None:
            self._app.register_task(task)
