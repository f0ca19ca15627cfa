"""Run tasks of your own in tests: in this process, in milliseconds, without servers (`run`)."""

from __future__ import annotations

from laneway.platform.execution.local_platform import Progress, Submitted
from laneway.platform.execution.local_run import AttemptRun, LocalRun
from laneway.testing.runner import run

__all__ = ["AttemptRun", "LocalRun", "Progress", "Submitted", "run"]
