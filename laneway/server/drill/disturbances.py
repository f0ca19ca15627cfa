"""What the drills do. Each submits tasks, disturbs, and says what it did; it signals no process but the drill's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event
from typing import Final

from laneway.server.drill.bench import ERRORS, Bench
from laneway.server.drill.processes import DrillBroker, wait_until
from laneway.server.drill.relay import Relay
from laneway.server.drill.report import MARGIN, Observation

FIRST, SECOND = "first", "second"
CUT_LEASES: Final = 1.5
"""A partition lasts for so many leases."""
START_SECONDS: Final = 60.0


def kill_worker(bench: Bench) -> Observation:
    """Kill a worker with its pool processes while it runs tasks; another worker has to run them again."""
    url = bench.plan.broker
    victim, _ = bench.start_workers(**{FIRST: url, SECOND: url})
    bench.submit(bench.load.tasks)
    bench.until_busy(victim)
    victim.kill()
    at = time.time()
    bench.submit(bench.load.later)
    bench.until_over()
    risk = bench.touched_by(victim, at, at)
    return Observation("killed a worker with SIGKILL while it ran tasks", at, at, risk, bench.plan.lease + MARGIN)


def stop_worker(bench: Bench) -> Observation:
    """Stop a worker warmly while it runs tasks: it finishes them, and none runs again."""
    url = bench.plan.broker
    victim, _ = bench.start_workers(**{FIRST: url, SECOND: url})
    bench.submit(bench.load.tasks)
    bench.until_busy(victim)
    at = time.time()
    took = victim.stop()
    bench.submit(bench.load.later)
    bench.until_over()
    return Observation(f"stopped a worker with SIGTERM, which took {took:.1f} s", at, at, frozenset(), MARGIN)


def restart_broker(bench: Bench, broker: DrillBroker) -> Observation:
    """Kill the drill's own broker while tasks run, and start it again on its data."""
    first, _ = bench.start_workers(**{FIRST: broker.url, SECOND: broker.url})
    bench.submit(bench.load.tasks)
    bench.until_busy(first)
    broker.kill()
    at = time.time()
    broker.start()
    back = time.time()
    wait_until(lambda: _answers(bench), seconds=START_SECONDS, what="the answer of the drill's broker")
    bench.submit(bench.load.later)
    bench.until_over()
    risk = bench.touched_by(None, at, back + MARGIN)
    return Observation("killed its own broker and started it again", at, back, risk, bench.plan.lease + MARGIN)


def partition(bench: Bench, relay: Relay) -> Observation:
    """Cut one worker off from the drill's own broker for longer than a lease, and let it come back."""
    cut_off, _ = bench.start_workers(**{FIRST: relay.url, SECOND: bench.plan.broker})
    bench.submit(bench.load.tasks)
    bench.until_busy(cut_off)
    relay.cut()
    at = time.time()
    seconds = CUT_LEASES * bench.plan.lease
    Event().wait(seconds)
    relay.heal()
    healed = time.time()
    bench.submit(bench.load.later)
    bench.until_works(cut_off, since=healed, seconds=bench.plan.lease + MARGIN)
    bench.until_over()
    risk = bench.touched_by(cut_off, at, healed + JOINS_WITHIN)
    return Observation(f"cut a worker off from its broker for {seconds:g} s", at, at, risk, bench.plan.lease + MARGIN)


JOINS_WITHIN: Final = 1.0
"""Seconds after the end of a partition in which the worker may still end what it ran."""

PLAIN: Final[dict[str, Callable[[Bench], Observation]]] = {"kill-worker": kill_worker, "stop-worker": stop_worker}


def _answers(bench: Bench) -> bool:
    try:
        bench.engine.time()
    except ERRORS:
        return False
    return True
