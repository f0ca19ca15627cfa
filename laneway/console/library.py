"""The pages of the library."""

from __future__ import annotations

from typing import Final

from laneway.console import assets
from laneway.console.pages import overview, task, tasks

CONSOLE: Final = (assets, overview, tasks, task)
"""The modules with the console's routers."""
