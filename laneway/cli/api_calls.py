"""Calls of an API, and lists that it returns in pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from laneway.client.calls import Call
    from laneway.schemas.task import EventView

T = TypeVar("T")
PAGE: Final = 200
"""The most rows that every list of the API returns at once."""


class Api(Protocol):
    """Sends calls to an API. Each raises a ClientError."""

    def send(self, call: Call[T]) -> T: ...

    def events(self, id: str, *, after: int, follow: bool) -> Iterator[EventView]: ...

    def close(self) -> None: ...


def pages(page: Callable[[int | None, int], tuple[list[T], int | None]], limit: int) -> list[T]:
    """The first `limit` rows of a list. `page`: returns the rows before one, and what comes before the next page."""
    found, before = list[T](), None
    while len(found) < limit:
        rows, before = page(before, min(PAGE, limit - len(found)))
        found += rows
        if before is None:
            break
    return found
