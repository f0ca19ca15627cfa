"""Fixtures for every suite: real servers, started once a session."""

import gc
from collections.abc import Generator

import pytest
from hypothesis import settings

from tests.fixtures.api import api, end_live, live, live_site, make_api  # noqa: F401
from tests.fixtures.budget import budget
from tests.fixtures.databases import *  # noqa: F403
from tests.fixtures.document_desk import desk  # noqa: F401
from tests.fixtures.emptied import *  # noqa: F403
from tests.fixtures.http_peer import http_peer  # noqa: F401
from tests.fixtures.logs import log_plainly, never_keep_loggers
from tests.fixtures.platform import (  # noqa: F401
    environment,
    movable_clock,
    platform,
    platform_app,
    platform_settings,
    services,
)
from tests.fixtures.rabbitmq import rabbitmq  # noqa: F401
from tests.fixtures.s3 import s3_server  # noqa: F401
from tests.fixtures.shell import installed, laneway  # noqa: F401
from tests.fixtures.valkey import redis_urls, valkey  # noqa: F401

settings.register_profile("busy machine", deadline=None, max_examples=budget(short=50, long=500))
settings.load_profile("busy machine")

SERVERS = {
    *("api", "database", "engine_url", "installed", "laneway", "laneway_installation", "laneway_platform"),
    *("live_site", "make_api", "new_database", "platform", "platform_database"),
    *("postgresql_server", "rabbitmq", "redis_urls", "s3_server", "services", "shared_site", "site", "valkey"),
}
"""Fixtures that start a server or a process: a test that uses one of them gets the marker `server`."""
LONGEST_ID = 60

never_keep_loggers()
log_plainly()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """A long value is not the id of its test: some of them are new in every process."""
    return argname if isinstance(val, str | bytes) and len(val) > LONGEST_ID else None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test that needs a server (`pytest -m "not server"`), and name its group for the processes of xdist.

    The tests of a file run in one process. So do all tests of the API and worker that `live` starts, because to start
    them takes longer than most of these tests. (`pytest_collection_modifyitems` would come too late: xdist reads the
    groups in its own hook of that name.)
    """
    used: list[str] = getattr(item, "fixturenames", [])
    if SERVERS.intersection(used) or "acceptance" in item.path.parts:
        item.add_marker("server")
    group = f"live-{item.callspec.params['live_site']}" if "live_site" in used else item.nodeid.partition("::")[0]
    item.add_marker(pytest.mark.xdist_group(group))


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End processes that no further test uses."""
    end_live(item, nextitem)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect the tests without garbage collections: they would look through thousands of objects that all stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Check that xdist has taken the groups: without them every process starts the servers of every file.

    Keep the thousands of collected tests out of the garbage collector's way, too: nothing of them becomes garbage.
    """
    if session.items and getattr(session.config.option, "loadgroup", False):
        assert "@" in session.items[0].nodeid, "pytest-xdist ignores the groups of tests: see pyproject.toml"
    gc.freeze()
