"""The pages of the library."""

from __future__ import annotations

from typing import Final

from laneway.console import assets
from laneway.console.pages import dead_letters, overview, task, tasks, workers, workflows

CONSOLE: Final = (assets, overview, tasks, task, dead_letters, workflows, workers)
"""The modules with the console's routers."""
