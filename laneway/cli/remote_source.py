"""A platform at a URL, used over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from laneway.cli.api_source import ApiSource
from laneway.client.client import Client

if TYPE_CHECKING:
    from laneway.cli.source import FeedPart
    from laneway.schemas.feed import FeedEvent
    from laneway.schemas.task import EventView

FOLLOW_RETRY_SECONDS = 60.0
"""For how long a broken event stream is connected again. Other requests are sent once: somebody waits for them."""


class RemoteSource(ApiSource):
    """Asks the API at a URL."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url, self._token = url, token
        client = Client(url, token=token, retry_seconds=0)
        super().__init__(client)
        self.description = client.url

    def follow(self, id: str) -> Iterator[EventView]:
        """The events as they come, until the task ends."""
        self.show(id)  # an unknown id is an error now, not at the first event
        return self._follow(id)

    def feed(self, part: FeedPart) -> Iterator[FeedEvent]:
        """The events of many tasks."""
        with Client(self._url, token=self._token, retry_seconds=FOLLOW_RETRY_SECONDS) as patient:
            yield from patient.feed(**asdict(part))

    def _follow(self, id: str) -> Iterator[EventView]:
        with Client(self._url, token=self._token, retry_seconds=FOLLOW_RETRY_SECONDS) as patient:
            yield from patient.events(id)
