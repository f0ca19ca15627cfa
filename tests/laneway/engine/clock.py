"""A server whose time the test moves: the scripts' `clock.lua` is replaced, nothing else."""

from __future__ import annotations

from laneway.engine import Engine

CLOCK_KEY = "laneway:test:clock"
CLOCK_LUA = f"local function clock() return tonumber(redis.call('GET', '{CLOCK_KEY}')) end"


def set_clock(engine: Engine, us: int) -> None:
    """Make it `us` microseconds since 1970 for every engine with `CLOCK_LUA`."""
    engine.runner.call("SET", CLOCK_KEY, us)
