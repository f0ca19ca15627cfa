"""An app on the engine's result backend, with an empty server."""

from __future__ import annotations

from collections.abc import Generator

import pytest
import redis
from celery import Celery

from laneway.results.backend import ResultBackend
from tests.fixtures.backend_app import BACKEND, backend_app
from tests.fixtures.valkey import RedisUrls


@pytest.fixture
def app(redis_urls: RedisUrls) -> Generator[Celery]:
    app = backend_app(redis_urls.broker, BACKEND + redis_urls.backend)
    yield app
    app.backend.result_consumer.stop()
    app.close()


@pytest.fixture
def backend(app: Celery) -> ResultBackend:
    return app.backend


@pytest.fixture
def server(redis_urls: RedisUrls) -> Generator[redis.Redis]:
    with redis.Redis.from_url(redis_urls.backend) as client:
        yield client
