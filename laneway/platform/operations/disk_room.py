"""The room on the disk of a folder."""

from __future__ import annotations

import shutil
from pathlib import Path


def free_percent(folder: Path) -> float | None:
    """The free share of the disk of a folder, in percent; None where there is no such folder."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return 100 * usage.free / usage.total if usage.total else None
