"""The fleet of a Celery app without the platform: what workers answer to remote control, and the engine's queues."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from laneway.adopt.project import Project
from laneway.adopt.stock_lists import StockLists
from laneway.doctor.fleet_rules import FleetFacts, QueueState, WorkerState
from laneway.engine.engine import Engine

ANSWER_SECONDS: Final = 1.0
"""How long workers have to answer. The answer of a busy one may come later."""


def collect_plain_fleet(project: Project, engine: Engine | None) -> FleetFacts:
    """Ask the workers, and count what waits. `engine`: None for a broker that is not on the engine.

    Raises EngineError, or kombu's OperationalError, when the broker cannot be reached.
    """
    if engine is not None:
        engine.time()  # a broker that is away is noticed sooner here than by Celery
    control = project.app.control
    names = [
        name for reply in cast("Sequence[Mapping[str, Any]]", control.ping(timeout=ANSWER_SECONDS)) for name in reply
    ]
    served = _served(control.inspect(timeout=ANSWER_SECONDS).active_queues() if names else None)
    declared = project.declared
    found = engine.stats(sorted(declared)) if engine is not None else ()
    states = {each.queue: each for each in found}
    return FleetFacts(
        queues=[
            QueueState(
                name=queue,
                waiting=states[queue].waiting if queue in states else 0,
                workers=served[queue],
                paused=queue in states and states[queue].paused,
                dead=states[queue].dead if queue in states else 0,
                most=states[queue].limits.get("max_size") if queue in states else None,
            )
            for queue in sorted(declared)
        ],
        workers=[WorkerState(name=name) for name in sorted(set(names))],
        shared_names=[name for name, number in Counter(names).items() if number > 1],
        unknown_queues=_unknown(engine, declared) if engine is not None else None,
        stranded=_stranded(engine) if engine is not None else None,
    )


def _served(answers: object) -> Counter[str]:
    """Queue → the number of workers that consume it."""
    counted = Counter[str]()
    for queues in cast("Mapping[str, Sequence[Mapping[str, str]]]", answers or {}).values():
        counted.update(str(queue["name"]) for queue in queues)
    return counted


def _unknown(engine: Engine, declared: frozenset[str]) -> list[str]:
    names = [
        name
        for name in engine.queue_names()
        if name not in declared and not name.endswith(".pidbox") and not name.startswith("celeryev.")
    ]
    return [each.queue for each in engine.stats(names) if each.waiting + each.leased] if names else []


def _stranded(engine: Engine) -> list[str]:
    lists = StockLists.of(engine)
    return [f"{queue} ({number})" for queue, number in lists.sizes(lists.names()).items()]
