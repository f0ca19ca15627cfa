"""A binding of a queue to an exchange, as it is stored in the set of the exchange's bindings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Binding:
    """A row of kombu's table of bindings. `expires`: the queue is deleted when it is unused, and then this row, too."""

    routing_key: str
    pattern: str
    queue: str
    expires: bool = False

    @property
    def row(self) -> tuple[str, str, str]:
        """The row as kombu has it."""
        return self.routing_key, self.pattern, self.queue

    def to_json(self) -> str:
        """The member of the set."""
        return json.dumps([*self.row, "expires"] if self.expires else [*self.row])

    @classmethod
    def from_json(cls, member: bytes) -> Binding | None:
        """Read a member of the set; None for a member of another form."""
        try:
            row: Any = json.loads(member)
            routing_key, pattern, queue, *rest = row
        except (ValueError, TypeError, RecursionError):
            return None
        if not all(isinstance(part, str) for part in (routing_key, pattern, queue)):
            return None
        return cls(routing_key, pattern, queue, expires=bool(rest))
