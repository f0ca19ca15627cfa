"""The platform of the project, asked through its API on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from laneway.cli.api_source import ApiSource, figures_of
from laneway.cli.missing import say_missing
from laneway.cli.source import LIMITS_UNKNOWN
from laneway.client import operator_calls

if TYPE_CHECKING:
    from laneway.cli.own_api import OwnApi
    from laneway.cli.source import FeedPart, Figures, Source
    from laneway.schemas.alert import AlertView
    from laneway.schemas.feed import FeedEvent
    from laneway.schemas.queue import QueueLimitsListResponse
    from laneway.schemas.task import EventView


class OwnSource(ApiSource):
    """Asks the API of the project. To wait for events it uses the platform itself, as without an API."""

    def __init__(self, api: OwnApi, *, itself: Callable[[], Source]) -> None:
        super().__init__(api)
        self._own, self._itself = api, itself
        self.description = api.description

    def follow(self, id: str) -> Iterator[EventView]:
        """The events as they come, until the task ends."""
        return self._itself().follow(id)

    def feed(self, part: FeedPart) -> Iterator[FeedEvent]:
        """The events of many tasks."""
        return self._itself().feed(part)

    def figures(self, window: float, *, queue: str | None, name: str | None) -> Figures:
        """The figures, with the alerts of now."""
        return figures_of(self._own.send(operator_calls.stats(window=window, queue=queue, name=name), sweep=True))

    def alerts(self, *, closed: bool) -> list[AlertView]:
        """The alerts of now."""
        return self._own.send(operator_calls.alerts(closed=closed), sweep=True).alerts

    def limits(self) -> QueueLimitsListResponse:
        """The limits; also says if it is not known whether they are in force."""
        found = super().limits()
        if self._own.has_engine and any(queue.in_force is None for queue in found.queues):
            say_missing(LIMITS_UNKNOWN)
        return found
