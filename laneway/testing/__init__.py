"""Test tasks of your own.

`run` runs a task in this process, in milliseconds, without servers. The fixtures of `laneway.testing.plugin`, which
pytest finds by itself, run whole flows on a real Valkey and a SQLite file.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laneway.platform.execution.local_platform import Progress, Submitted
    from laneway.platform.execution.local_run import AttemptRun, LocalRun
    from laneway.testing.clock import Clock
    from laneway.testing.flows import TestPlatform
    from laneway.testing.runner import run, run_many

_HOMES = {
    "AttemptRun": "laneway.platform.execution.local_run",
    "Clock": "laneway.testing.clock",
    "LocalRun": "laneway.platform.execution.local_run",
    "Progress": "laneway.platform.execution.local_platform",
    "Submitted": "laneway.platform.execution.local_platform",
    "TestPlatform": "laneway.testing.flows",
    "run": "laneway.testing.runner",
    "run_many": "laneway.testing.runner",
}
"""Public name → its module, imported at the first use: pytest imports this package in each project that has Laneway."""


def __getattr__(name: str) -> Any:
    """Import a public name."""
    if name not in _HOMES:
        raise AttributeError(f"module 'laneway.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


__all__ = ["AttemptRun", "Clock", "LocalRun", "Progress", "Submitted", "TestPlatform", "run", "run_many"]
