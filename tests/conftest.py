"""Fixtures for every suite: real servers, started once a session."""

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
