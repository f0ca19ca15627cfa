"""Spans of time in requests, in seconds. It imports nothing, so that commands may import it."""

from __future__ import annotations

from typing import Final

A_DAY: Final = 86_400
LONGEST_OVERLAP: Final = 30 * A_DAY
"""For how long two secrets of a destination may sign."""
A_CENTURY: Final = 100 * 366 * A_DAY
