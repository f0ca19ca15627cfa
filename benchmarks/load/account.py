"""Account for every task that was accepted during the load, from the history alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

from app.core.celery_app import make_celery
from app.core.settings import load_settings
from app.services.container import Services
from laneway.schemas.task import UNFINISHED, TaskState

PAGE = 400


@dataclass(frozen=True, slots=True)
class Account:
    """The counts. `lost`: accepted and not in the history. `left`: not finished. `unaccounted`: named by the audit."""

    accepted: int
    lost: int
    states: Counter[str] = field(default_factory=Counter[str])
    failed: list[str] = field(default_factory=list[str])
    drained_after: float = 0
    unaccounted: int = 0
    left: int = 0

    @property
    def is_good(self) -> bool:
        """Whether every accepted task completed and none is missing."""
        return not (self.lost or self.unaccounted or self.left or self.failed)


def account(accepted: Path, *, seconds: float) -> Account:
    """Wait until all tasks are finished, at most `seconds`, and count them. The settings come from the environment."""
    settings = load_settings()
    app = make_celery(settings)
    app.set_current()
    services = Services(settings, app)
    began = monotonic()
    while (left := _left(services)) and monotonic() - began < seconds:
        sleep(0.5)
    drained = monotonic() - began
    ids = list(
        dict.fromkeys(
            line.split()[1] for line in accepted.read_text("utf-8").splitlines() if line.startswith("task_id ")
        )
    )
    runs = [run for page in _pages(ids) for run in services.tasks.runs(page)]
    failed = [
        f"{run.name} {run.task_id}: {run.status} {run.error or ''}" for run in runs if run.status != TaskState.COMPLETED
    ]
    audit = services.audit.run()
    result = Account(
        accepted=len(ids),
        lost=len(ids) - len(runs),
        failed=failed,
        drained_after=drained,
        left=left,
        states=Counter({state.value: number for state, number in audit.by_state.items()}),
        unaccounted=len(audit.unaccounted) + len(audit.unknown),
    )
    services.close()
    return result


def _left(services: Services) -> int:
    services.recorder.catch_up()
    counts = services.tasks.counts()
    return sum(counts.get(state, 0) for state in UNFINISHED)


def _pages(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), PAGE):
        yield ids[start : start + PAGE]
