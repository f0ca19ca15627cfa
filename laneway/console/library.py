"""The pages of the library."""

from __future__ import annotations

from typing import Final

from laneway.console import assets
from laneway.console.pages import overview, task, tasks, workflows

CONSOLE: Final = (assets, overview, tasks, task, workflows)
"""The modules with the console's routers."""
