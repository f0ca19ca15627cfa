"""Engines on a database of their own, which is emptied before each test."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from laneway.engine import Engine
from tests.fixtures.lost_reply import lose_reply  # noqa: F401
from tests.fixtures.valkey import RunningValkey

DATABASE = 6


@pytest.fixture
def engine_url(valkey: RunningValkey) -> str:
    """The address of an empty database."""
    valkey.flush(DATABASE)
    return valkey.url(DATABASE)


@pytest.fixture
def engine(engine_url: str) -> Generator[Engine]:
    """An engine on an empty database."""
    engine = Engine.from_url(engine_url, owner="test")
    yield engine
    engine.close()
