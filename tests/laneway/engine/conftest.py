"""Engines whose time stands still."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from laneway.engine import Engine
from laneway.engine.url import make_pool
from tests.laneway.engine.clock import CLOCK_LUA, move_to


@pytest.fixture
def still(engine_url: str) -> Generator[Engine]:
    """An engine whose time stands still at NOW_MS, until the test moves it."""
    engine = Engine(make_pool(engine_url), clock=CLOCK_LUA)
    move_to(engine, 0)
    yield engine
    engine.close()
