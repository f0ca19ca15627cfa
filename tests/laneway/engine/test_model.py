"""The engine on a real server does what the model does, step by step.

`ENGINE_MODEL_STEPS` sets how many steps it takes (default 1,000, a few seconds; 10,000 with LANEWAY_TEST_LONG=1).
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from redis.connection import ConnectionPool

from tests.fixtures.budget import budget
from tests.fixtures.valkey import RunningValkey
from tests.laneway.engine.machine import EngineMachine

STEPS = int(os.environ.get("ENGINE_MODEL_STEPS") or budget(short=1_000, long=10_000))
STEPS_PER_EXAMPLE = 50
PHASES = (Phase.explicit, Phase.reuse, Phase.generate) + (
    (Phase.shrink,) if os.environ.get("ENGINE_MODEL_SHRINK") else ()
)
"""Shrinking a failure takes minutes; ENGINE_MODEL_SHRINK=1 turns it on."""


@pytest.mark.timeout(600)
def test_the_server_has_the_state_of_the_model_after_every_step(valkey: RunningValkey) -> None:
    EngineMachine.pool = ConnectionPool.from_url(valkey.url(7))  # pyright: ignore[reportUnknownMemberType]

    run_state_machine_as_test(
        EngineMachine,
        settings=settings(
            max_examples=max(1, STEPS // STEPS_PER_EXAMPLE),
            stateful_step_count=STEPS_PER_EXAMPLE,
            deadline=None,
            report_multiple_bugs=False,
            phases=PHASES,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        ),
    )
