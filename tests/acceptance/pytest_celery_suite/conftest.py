"""pytest-celery without Docker: its nodes are processes of the platform.

It needs the plugin, whose fixtures take the place of Celery's own: tests/acceptance/test_pytest_celery.py runs it.
"""

from __future__ import annotations

import signal as signals
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from pytest_celery import (
    CeleryBackendCluster,
    CeleryBrokerCluster,
    CeleryTestContainer,
    CeleryTestWorker,
    CeleryWorkerCluster,
    RedisTestBackend,
    RedisTestBroker,
)

from tests.fixtures.site import Node, Site


class ProcessContainer(CeleryTestContainer):
    """The interface of a container that pytest-celery uses, for a process."""

    def __init__(self, name: str) -> None:  # not the parent's, which asks Docker
        self._name = name

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def id(self) -> str:
        """The name again: there is one node of each kind."""
        return self._name

    def reload(self) -> None:
        """Do nothing: no state is cached."""


class BrokerContainer(ProcessContainer):
    """The site's Valkey, seen as broker or as result store."""

    def __init__(self, site: Site, name: str, *, database: int) -> None:
        super().__init__(name)
        self._valkey, self._database = site.valkey, database

    @property
    def status(self) -> str:
        """The status in Docker's words."""
        return "running" if self._valkey.running else "exited"

    @property
    def celeryconfig(self) -> dict[str, Any]:
        """The environment variable with its URL."""
        url = self._valkey.url(self._database)
        return {"url": url, "host_url": url}

    def ready(self) -> bool:
        """Whether it runs; `start` has waited until it answers."""
        return self._valkey.running

    def logs(self) -> str:
        """What it wrote."""
        return (self._valkey.folder / "server.log").read_text()

    def kill(self, signal: str | None = "SIGKILL") -> None:
        """Kill it, as a crash would."""
        assert signal == "SIGKILL"
        self._valkey.kill()

    def restart(self, timeout: int = 10) -> None:  # noqa: ARG002  its stop has a limit of its own
        """Start it again, on the same port with the same data."""
        self._valkey.restart()


class WorkerContainer(ProcessContainer):
    """A worker of the platform."""

    def __init__(self, site: Site, name: str) -> None:
        super().__init__(name)
        self._site = site
        self._node: Node = site.worker(name)

    @property
    def status(self) -> str:
        """The status in Docker's words."""
        return "exited" if self._node.ended else "running"

    def ready(self) -> bool:
        """Whether it has reported to the platform."""
        self._site.until_reported(self._node)
        return True

    def logs(self) -> str:
        """Its output since the last start."""
        return self._node.output()

    def kill(self, signal: str | None = "SIGKILL") -> None:
        """Send it a signal."""
        if signal == "SIGKILL":
            self._node.kill()
        else:
            self._node.signal(signals.Signals[signal or "SIGTERM"])

    def restart(self, timeout: int = 60) -> None:
        """Stop it, if it runs, and start it again."""
        if not self._node.ended:
            self._node.stop(seconds=timeout)
        self._node = self._site.worker(self._name)

    def teardown(self) -> None:
        """Kill it."""
        self._node.kill()


@pytest.fixture
def celery_broker_cluster(site: Site) -> CeleryBrokerCluster:
    """The site's Valkey as broker."""
    return CeleryBrokerCluster(RedisTestBroker(BrokerContainer(site, "broker", database=0)))


@pytest.fixture
def celery_backend_cluster(site: Site) -> CeleryBackendCluster:
    """The site's Valkey as result store."""
    return CeleryBackendCluster(RedisTestBackend(BrokerContainer(site, "backend", database=1)))


@pytest.fixture
def celery_setup_app(site: Site) -> Celery:
    """The platform's Celery app."""
    return site.app


@pytest.fixture
def celery_worker_cluster(site: Site, celery_setup_app: Celery) -> Iterator[CeleryWorkerCluster]:
    """One worker of the platform."""
    worker = CeleryTestWorker(WorkerContainer(site, "node"), celery_setup_app)
    yield CeleryWorkerCluster(worker)
    worker.teardown()
