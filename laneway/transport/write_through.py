"""The event loops whose pool writes to its processes at once; Celery's pool writes in the loop's next turn."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

write_through_loops: WeakSet[Any] = WeakSet()
