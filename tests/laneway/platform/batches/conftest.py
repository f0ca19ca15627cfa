"""Fixtures of the tests of batches."""

from __future__ import annotations

import pytest

from laneway.platform.batches.batches import Batches
from tests.fixtures.platform import Platform


@pytest.fixture
def batches(platform: Platform) -> Batches:
    """The batches of the test's platform."""
    return Batches(platform.database, platform.recorder, platform.tasks, platform.settings.tasks)
