"""A server whose time the test moves: it replaces the scripts' `clock.lua` and nothing else."""

from __future__ import annotations

from laneway.engine import Engine

CLOCK_KEY = "laneway:test:clock"
CLOCK_LUA = f"local function clock() return tonumber(redis.call('GET', '{CLOCK_KEY}')) end"
NOW_MS = 1_790_000_000_000
"""The time at which an engine with a still clock starts, in ms since 1970."""


def set_clock(engine: Engine, us: int) -> None:
    """Set the time, in microseconds since 1970, of every engine made with `CLOCK_LUA`."""
    engine.runner.call("SET", CLOCK_KEY, us)


def move_to(engine: Engine, ms: float) -> None:
    """Set the time to `ms` milliseconds after NOW_MS."""
    set_clock(engine, round((NOW_MS + ms) * 1000))
