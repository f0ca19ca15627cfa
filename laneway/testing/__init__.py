"""Run tasks of your own in tests: in this process, in milliseconds, without servers (`run`)."""

from __future__ import annotations

from laneway.testing.local_platform import Progress, Submitted
from laneway.testing.runner import AttemptRun, TaskRun, run

__all__ = ["AttemptRun", "Progress", "Submitted", "TaskRun", "run"]
