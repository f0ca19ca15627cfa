"""Which event loops have a pool that writes to its processes at once, not in the loop's next turn."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

writes_at_once: WeakSet[Any] = WeakSet()
