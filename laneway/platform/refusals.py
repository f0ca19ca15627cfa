"""The refusals of tasks that are published together."""

from __future__ import annotations

from collections.abc import Sequence

from laneway.platform.db.models import TaskRun
from laneway.platform.errors import PlatformError, Unsendable


class Refusals:
    """The refusals of the tasks of one `publish_many` call so far."""

    def __init__(self) -> None:
        self.by_id: dict[str, PlatformError | None] = {}
        self._by_key: dict[str, PlatformError] = {}

    def note(self, run: TaskRun, refusal: PlatformError | None) -> None:
        """Note the outcome of a task. A refusal blocks the later tasks of its key; Unsendable does not."""
        self.by_id[run.id] = refusal
        if run.key is not None and refusal is not None and not isinstance(refusal, Unsendable):
            self._by_key.setdefault(run.key, refusal)

    def blocks(self, run: TaskRun) -> bool:
        """True when an earlier task of the same key was refused; the task is then refused, too."""
        if run.key is None or run.key not in self._by_key:
            return False
        self.by_id[run.id] = self._by_key[run.key]
        return True

    def of(self, runs: Sequence[TaskRun], *, otherwise: PlatformError | None = None) -> list[PlatformError | None]:
        """The refusal of each task; `otherwise` for those that were not tried."""
        return [self.by_id.get(run.id, otherwise) for run in runs]
