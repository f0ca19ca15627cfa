"""A Celery project whose messages are on a real server."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Generator
from typing import Any

import pytest
from kombu import pools

from laneway.adopt.stock_lists import StockLists
from laneway.engine import Engine
from tests.fixtures.valkey import RedisUrls

APP = "tests.laneway.adopt.shop"


@pytest.fixture
def shop(redis_urls: RedisUrls, monkeypatch: pytest.MonkeyPatch) -> Generator[Any]:
    """The project's module, on kombu's transport."""
    monkeypatch.setenv("BROKER", redis_urls.broker)
    monkeypatch.setenv("BACKEND", redis_urls.backend)
    sys.modules.pop(APP, None)
    module = importlib.import_module(APP)
    yield module
    module.notes.close()
    module.app.close()
    pools.reset()


@pytest.fixture
def broker(redis_urls: RedisUrls) -> Generator[Engine]:
    """An engine on the database of the project's messages."""
    engine = Engine.from_url(redis_urls.broker)
    yield engine
    engine.close()


@pytest.fixture
def lists(broker: Engine) -> StockLists:
    """kombu's lists in that database."""
    return StockLists.of(broker)
