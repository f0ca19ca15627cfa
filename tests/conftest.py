"""Fixtures for every suite: real servers, started once a session."""

import pytest

from tests.fixtures.api import api, live, make_api  # noqa: F401
from tests.fixtures.databases import *  # noqa: F403
from tests.fixtures.http_peer import http_peer  # noqa: F401
from tests.fixtures.platform import (  # noqa: F401
    environment,
    movable_clock,
    platform,
    platform_app,
    platform_database,
    platform_postgresql,
    platform_settings,
    services,
)
from tests.fixtures.rabbitmq import rabbitmq  # noqa: F401
from tests.fixtures.s3 import s3_server  # noqa: F401
from tests.fixtures.shell import installed, laneway  # noqa: F401
from tests.fixtures.valkey import redis_urls, valkey  # noqa: F401

SERVERS = {
    *("api", "database", "engine_url", "installed", "laneway", "live", "make_api", "platform", "platform_database"),
    *("postgresql_server", "rabbitmq", "redis_urls", "s3_server", "services", "shared_site", "site", "valkey"),
}
"""Fixtures that start a server or a process: a test that uses one of them gets the marker `server`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a server, so that the others can be run alone: `pytest -m "not server"`."""
    for item in items:
        used: list[str] = getattr(item, "fixturenames", [])
        if SERVERS.intersection(used) or "acceptance" in item.path.parts:
            item.add_marker("server")
