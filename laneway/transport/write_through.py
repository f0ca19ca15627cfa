"""The event loops whose pool writes a job at once. Celery's own pool writes it in the next turn of the loop."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

write_through_loops: WeakSet[Any] = WeakSet()
