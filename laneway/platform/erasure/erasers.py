"""What an application adds to an erasure: it knows its own tables, and the library knows none of them.

from laneway.platform.erasure.erasers import Found, register_eraser

class Orders:
    def find(self, session, subject):
        orders = [...]
        return Found({"orders": len(orders)}, ids=frozenset(order.id for order in orders))

    def erase(self, session, subject):
        ...

register_eraser(Orders())
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from sqlalchemy.orm import Session

from laneway.platform.erasure.subject import Subject


@dataclass(frozen=True, slots=True)
class Found:
    """What an application stores of a person."""

    counts: Mapping[str, int]
    """Kind of data → number."""
    ids: frozenset[str] = frozenset()
    """Ids that belong to this person only, such as those of their conversations. Tasks with them are found as well."""
    elsewhere: frozenset[str] = field(default=frozenset())
    """Sentences about data in other systems, which somebody has to remove there."""


class Eraser(Protocol):
    """Finds and removes what an application stores of a person."""

    def find(self, session: Session, subject: Subject) -> Found:
        """Return what there is. It is called again with the ids that all erasers have found, until none is new."""
        ...

    def erase(self, session: Session, subject: Subject) -> None:
        """Remove what `find` returns, in the transaction of this session."""
        ...


registered_erasers: Final[list[Eraser]] = []
"""The erasers of the application of this process."""


def register_eraser(eraser: Eraser) -> None:
    """Let every erasure of this process use this eraser, too."""
    registered_erasers.append(eraser)
